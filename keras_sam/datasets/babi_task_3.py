"""Stories for bAbI's task 3, "three supporting facts", from a simulation of our own.

Four people move among six places and carry three objects. A question asks where an
object was before it was at some place. The sentences have the words of the official
ones, and the rates of events are close to theirs.

In the official training and validation files a question follows each two events after
which one can be asked. It can be asked about an object that somebody has got or dropped
within the last five events, and has brought to two places or more: from which of these
places it came to the next one. The questions here follow that rule.
"""

import re

import numpy as np

from keras_sam.arguments import check_positive_integer
from keras_sam.datasets.babi_files import Line

PEOPLE = ("Daniel", "John", "Mary", "Sandra")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")
MOVES = ("went to", "went back to", "moved to", "journeyed to", "travelled to")
GETS = ("got", "grabbed", "took", "picked up")
DROPS = ("dropped", "discarded", "left", "put down")
QUESTIONS = 5
RECENT = 5  # events, after which an object is not asked about
MOVE_SHARE = 0.25  # how often a move is tried before any other event
THERE_SHARE = 0.22  # of the events with an object, how often "there" ends the sentence


class World:
    """Who is where, who holds what, and where a reader knows each object to have been.

    Both the generator and the check of answers tell it what happens.

    Attributes:
        places: Dictionary from a person to the place that a reader knows.
        holders: Dictionary from an object that is held to the person.
        paths: Dictionary from an object to its known places in order, no two
            neighbours equal.
        carried: Dictionary from an object to the places that its holder, or its last
            one, has brought it to.
        touched: Dictionary from an object to the number of the event that it was got or
            dropped in last.
        events: Integer, how many there were.
    """

    def __init__(self):
        self.places, self.holders, self.carried, self.touched = {}, {}, {}, {}
        self.paths = {thing: [] for thing in OBJECTS}
        self.events = 0

    def move(self, person, place):
        self.events += 1
        self.places[person] = place
        for thing, holder in self.holders.items():
            if holder == person:
                self.carried[thing].append(place)
                self._note(thing, place)

    def get(self, person, thing):
        self.events += 1
        self.holders[thing], self.carried[thing] = person, []
        self.touched[thing] = self.events
        if person in self.places:
            self._note(thing, self.places[person])

    def drop(self, person, thing):
        self.events += 1
        self.touched[thing] = self.events
        del self.holders[thing]

    def _note(self, thing, place):
        if self.paths[thing][-1:] != [place]:
            self.paths[thing].append(place)

    def before(self, thing, place):
        """Where the object was before it was last at the place, or None."""
        path = self.paths[thing]
        if place not in path:
            return None
        last = len(path) - 1 - path[::-1].index(place)
        return path[last - 1] if last > 0 else None


def answers(sentences):
    """The answers to the questions of a story of task 3, by simulation.

    Args:
        sentences: Strings, sentences and questions in order.

    Returns:
        List of strings, or of `None` where the story does not tell: one for each
        question.

    Raises:
        ValueError: If a sentence is none of task 3.

    Example:

    >>> from keras_sam.datasets.babi_task_3 import answers
    >>> answers(
    ...     [
    ...         "Mary moved to the office.",
    ...         "Mary got the milk there.",
    ...         "Mary went back to the garden.",
    ...         "Where was the milk before the garden?",
    ...     ]
    ... )
    ['office']
    """
    world, found = World(), []
    for sentence in sentences:
        kind, *parts = _understood(sentence)
        if kind == "ask":
            found.append(world.before(*parts))
        else:
            getattr(world, kind)(*parts)
    return found


def check_answers(stories):
    """Checks that the simulator gives the answers that stories of task 3 have.

    Args:
        stories: Lists of `keras_sam.datasets.babi_files.Line`, such as the official
            ones.

    Raises:
        ValueError: If it does not, or a sentence is none of task 3.
    """
    for told in stories:
        expected = [line.answer for line in told if line.answer]
        simulated = answers([line.text for line in told])
        if simulated != expected:
            raise ValueError(
                f"The simulator answers {simulated}, but the story has {expected}: "
                + " ".join(line.text for line in told)
            )


def _understood(sentence):
    """What a sentence says: a kind of event, and who, what or where."""
    question = re.fullmatch(r"Where was the (\w+) before the (\w+)\?", sentence)
    if question:
        return "ask", *question.groups()
    statement = re.fullmatch(r"(\w+) (.+?) the (\w+)(?: there)?\.", sentence)
    if statement:
        person, verb, noun = statement.groups()
        for kind, verbs in (("move", MOVES), ("get", GETS), ("drop", DROPS)):
            if verb in verbs:
                return kind, person, noun
    raise ValueError(f"Task 3 has no such sentence. Received: {sentence!r}")


def story(rng):
    """One story with five questions.

    Args:
        rng: A `np.random.Generator`, which advances.

    Returns:
        List of `keras_sam.datasets.babi_files.Line`.
    """
    world, lines, asked = World(), [], 0
    # A reader does not know where they are at first.
    people = {person: _pick(rng, PLACES) for person in PEOPLE}
    things = {thing: _pick(rng, PLACES) for thing in OBJECTS}
    while asked < QUESTIONS:
        for _ in range(2):
            lines.append(Line(_event(rng, world, people, things)))
        question = _question(rng, world)
        if question is not None:
            lines.append(question)
            asked += 1
    return lines


def _event(rng, world, people, things):
    """Lets something happen in the world, and returns the sentence that says so."""
    while True:
        person = _pick(rng, PEOPLE)
        if rng.random() < MOVE_SHARE:
            place = _pick(rng, [p for p in PLACES if p != people[person]])
            people[person] = place
            world.move(person, place)
            return f"{person} {_pick(rng, MOVES)} the {place}."
        thing = _pick(rng, OBJECTS)
        holder = world.holders.get(thing)
        if holder == person:
            world.drop(person, thing)
            things[thing], verbs = people[person], DROPS
        elif holder is None and things[thing] == people[person]:
            world.get(person, thing)
            verbs = GETS
        else:
            continue  # This person cannot do anything with the object.
        there = " there" if rng.random() < THERE_SHARE else ""
        return f"{person} {_pick(rng, verbs)} the {thing}{there}."


def _question(rng, world):
    """A question about an object, or None if there is none to ask."""
    things = [
        thing
        for thing, event in world.touched.items()
        if world.events - event < RECENT and len(world.carried[thing]) > 1
    ]
    if not things:
        return None
    thing = _pick(rng, things)
    place = _pick(rng, world.carried[thing][1:])
    text = f"Where was the {thing} before the {place}?"
    return Line(text, world.before(thing, place))


def _pick(rng, options):
    return options[rng.integers(len(options))]


def training_stories(count, held_out, seed=3):
    """Generated stories, none of which is a given one.

    Args:
        count: Integer, how many.
        held_out: Stories, lists of `keras_sam.datasets.babi_files.Line`, that must not
            be made, such as those of the official test file.
        seed: Non-negative integer. Defaults to `3`.

    Returns:
        List of stories, all different.

    Raises:
        ValueError: If `count` is not a positive integer or `seed` is negative.

    Example:

    >>> from keras_sam.datasets.babi_task_3 import training_stories
    >>> len(training_stories(2, held_out=[]))
    2
    """
    check_positive_integer("count", count)
    check_positive_integer("seed", seed, minimum=0)
    rng, stories = np.random.default_rng(seed), []
    taken = {tuple(each) for each in held_out}
    while len(stories) < count:
        made = story(rng)
        if tuple(made) not in taken:
            taken.add(tuple(made))
            stories.append(made)
    return stories
