"""The graph tasks, checked by solvers that see the inputs alone, in plain Python."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from keras_sam import tasks
from keras_sam.tasks import Lesson
from keras_sam.tasks.family_tree import TIES, family_tree
from keras_sam.tasks.graph import random_graph

END = (0, 0, 0)


def label(channels):
    """The number on 30 channels, or `None` where it is left open."""
    digits = np.reshape(channels, (3, 10))
    if not digits.any():
        return None
    assert (digits.sum(1) == 1).all() and ((digits == 0) | (digits == 1)).all()
    return int("".join(str(int(digit.argmax())) for digit in digits))


def triple(channels):
    channels = np.ravel(channels)
    return tuple(label(channels[30 * i : 30 * i + 30]) for i in range(3))


def read_phases(inputs):
    """The phases of a sequence: lists of triples, and whether they are answers."""
    phases = [[]]
    flags = [[]]
    for row in inputs:
        if row[90]:
            phases.append([])
            flags.append([])
        phases[-1].append(triple(row[:90]))
        flags[-1].append(bool(row[91]))
    # Padding after the last answer.
    while phases[-1] and not flags[-1][-1]:
        assert phases[-1].pop() == (None, None, None)
        flags[-1].pop()
    assert all(len(set(flag)) == 1 for flag in flags)
    return list(zip(phases, (flag[0] for flag in flags), strict=True))


def read_graph(description):
    edges = {}
    for source, edge, destination in description:
        assert edge not in edges.setdefault(source, {}), "an edge leads to two nodes"
        edges[source][edge] = destination
        assert source != destination
    return edges


def check(inputs, targets, sample_weight, solve):
    for x, y, weight in zip(inputs, targets, sample_weight, strict=True):
        (description, answered), *phases = read_phases(x)
        assert not answered
        answers = solve(read_graph(description), phases)
        asked = np.flatnonzero(x[:, 91])
        np.testing.assert_array_equal(np.flatnonzero(weight), asked)
        assert set(weight) == {0, 1}
        assert [triple(y[t]) for t in asked] == answers
        assert not y[weight == 0].any()


def solve_traversal(edges, phases):
    answers = []
    for (query, _), (silence, answered) in zip(phases[::2], phases[1::2], strict=True):
        assert answered and set(silence) == {(None, None, None)}
        node = query[0][0]
        for step, (source, edge, destination) in enumerate(query):
            assert destination is None and (source is None) == (step > 0)
            answers.append((node, edge, edges[node][edge]))
            node = edges[node][edge]
        answers.append(END)
    return answers


def shortest_paths(edges, source, destination):
    """All shortest paths, by trying all paths of one length after the other."""
    paths = [[(None, None, source)]]
    for _ in range(30):
        found = [path[1:] for path in paths if path[-1][2] == destination]
        if found:
            return found
        paths = [
            [*path, (path[-1][2], edge, neighbour)]
            for path in paths
            for edge, neighbour in edges.get(path[-1][2], {}).items()
        ]
    return []


def solve_shortest_path(edges, phases):
    answers = []
    for (query, _), (plan, answered), (shown, _) in questions_of(phases):
        assert not answered and plan == [(None, None, None)] * 10
        ((source, edge, destination),) = query
        assert edge is None
        (path,) = shortest_paths(edges, source, destination)
        assert shown == [(None, None, None), *path], "not the step before"
        answers += [*path, END]
    return answers


def questions_of(phases):
    """In groups of three: query, planning and answer."""
    return list(zip(phases[::3], phases[1::3], phases[2::3], strict=True))


def edges_of(relation):
    return (relation,) if relation < 10 else tasks.RELATIONS[relation]


def solve_inference(edges, phases):
    answers = []
    for (query, _), plan, answer in questions_of(phases):
        ((source, relation, destination),) = query
        assert destination is None
        assert plan == ([(None, None, None)] * 10, False)
        assert answer == ([(None, None, None)], True)
        node = source
        for edge in edges_of(relation):
            node = edges[node][edge]
        answers.append((source, relation, node))
    return answers


SOLVERS = {
    "traversal": (solve_traversal, tasks.TRAVERSAL_LESSONS),
    "shortest_path": (solve_shortest_path, tasks.SHORTEST_PATH_LESSONS),
    "inference": (solve_inference, tasks.INFERENCE_LESSONS),
}
every_task = pytest.mark.parametrize("name", SOLVERS)


def sequences(name, *args, **kwargs):
    return getattr(tasks, f"{name}_sequences")(*args, **kwargs)


def stream(name, *args, **kwargs):
    return getattr(tasks, f"{name}_task")(*args, **kwargs)


@every_task
def test_targets_follow_from_the_inputs_in_all_lessons(name):
    solve, lessons = SOLVERS[name]
    for seed in range(2):
        arrays = sequences(name, seed, lessons)
        assert {array.dtype for array in arrays} == {np.dtype("float32")}
        assert arrays[0].shape[2:] == (92,) and arrays[1].shape[2:] == (9, 10)
        check(*arrays, solve)


def test_a_graph_is_asked_for_several_paths():
    lesson = tasks.TRAVERSAL_LESSONS[6]
    x, y, weight = tasks.traversal_sequences(0, [lesson] * 20, queries=5)
    check(x, y, weight, solve_traversal)
    assert {len(read_phases(sequence)) for sequence in x} == {1 + 2 * 5}
    # Each path is drawn by itself: from any node, of any length.
    queries = [[query for query, _ in read_phases(each)[1::2]] for each in x]
    assert {len(query) for of_graph in queries for query in of_graph} == set(
        range(1, 6)
    )
    starts = [len({query[0][0] for query in of_graph}) for of_graph in queries]
    assert np.mean(starts) > 4
    # The stream has room for the longest.
    spec = tasks.traversal_task(2, lesson=7, queries=5).element_spec[0]
    assert spec.shape[1] == 20 * 4 + 5 * (2 * 5 + 1)


def test_shortest_paths_and_inference_are_asked_several_times():
    lesson = tasks.SHORTEST_PATH_LESSONS[5]
    arrays = tasks.shortest_path_sequences(0, [lesson] * 20, queries=4)
    check(*arrays, solve_shortest_path)
    asked = [
        [(query[0], len(shown) - 1) for (query, _), _, (shown, _) in questions]
        for questions in (questions_of(read_phases(x)[1:]) for x in arrays[0])
    ]
    assert {len(queries) for queries in asked} == {4}
    assert {length for queries in asked for _, length in queries} == {2, 3, 4}
    assert np.mean([len(set(queries)) for queries in asked]) > 3.5
    # The stream has room for the longest.
    spec = tasks.shortest_path_task(2, lesson=6, queries=4).element_spec[0]
    assert spec.shape[1] == 15 * 3 + 4 * (1 + 10 + 4 + 1)

    for queries in (1, 3, 8):
        for lesson in (tasks.INFERENCE_LESSONS[0], tasks.INFERENCE_LESSONS[8]):
            arrays = tasks.inference_sequences(0, [lesson] * 20, queries=queries)
            check(*arrays, solve_inference)
            np.testing.assert_array_equal(arrays[2].sum(1), queries)
            relations = {
                query[0][1]
                for x in arrays[0]
                for (query, _), *_ in questions_of(read_phases(x)[1:])
            }
            assert len(relations) > 10, "few relations are asked for"
            lengths = {len(tasks.RELATIONS[relation]) for relation in relations}
            assert lengths == set(range(lesson.length[0], lesson.length[1] + 1))
    spec = tasks.inference_task(2, queries=8).element_spec[0]
    assert spec.shape[1] == 3 * 2 + 8 * 12

    arrays = tasks.family_tree_sequences(0, [2, 4], queries=8)
    check(*arrays, solve_inference)
    np.testing.assert_array_equal(arrays[2].sum(1), 8)
    spec = tasks.family_tree_task(2, queries=8).element_spec[0]
    assert spec.shape[1] == 44 + 8 * 12


@every_task
def test_sizes_are_those_of_the_lesson(name):
    _, lessons = SOLVERS[name]
    for lesson in (lessons[0], lessons[-1]):
        lengths = Counter()
        for x in sequences(name, 0, [lesson] * 200)[0]:
            (description, _), (query, _), *rest = read_phases(x)
            edges = read_graph(description)
            assert lesson.nodes[0] <= len(edges) <= lesson.nodes[1]
            degrees = {len(names) for names in edges.values()}
            assert lesson.degree[0] <= min(degrees)
            assert max(degrees) <= lesson.degree[1]
            lengths[
                {
                    "traversal": len(query),
                    "shortest_path": len(rest[-1][0]) - 1,
                    "inference": len(tasks.RELATIONS.get(query[0][1], ())),
                }[name]
            ] += 1
        assert set(lengths) == set(range(lesson.length[0], lesson.length[1] + 1))


def test_the_paper_s_lessons():
    lessons = tasks.TRAVERSAL_LESSONS
    assert len(lessons) == 14
    assert lessons[0] == ((3, 10), (2, 4), (1, 1))
    assert lessons[6] == ((10, 20), (2, 4), (1, 5))
    assert lessons[9] == ((10, 30), (2, 4), (1, 7))
    assert lessons[11] == ((10, 30), (2, 4), (1, 9))
    assert lessons[12:] == (((10, 40), (2, 6), (1, 10)), ((10, 40), (2, 6), (1, 20)))
    assert len(tasks.SHORTEST_PATH_LESSONS) == 15
    assert tasks.SHORTEST_PATH_LESSONS[0] == ((5, 10), (1, 2), (2, 2))
    assert tasks.SHORTEST_PATH_LESSONS[-1] == ((20, 25), (2, 6), (2, 5))
    assert len(tasks.INFERENCE_LESSONS) == 17
    assert tasks.INFERENCE_LESSONS[0] == ((3, 3), (1, 2), (2, 2))
    assert tasks.INFERENCE_LESSONS[-1] == ((20, 25), (2, 4), (2, 5))
    for _, lessons in SOLVERS.values():
        for sizes in zip(*lessons, strict=True):
            # No lesson is easier than the one before in all its sizes.
            assert sizes[-1] >= sizes[0]


def test_edges_lead_to_the_nearest_neighbours():
    class Points:
        """A generator whose points lie on a line: 0, 1, 3, 7."""

        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def random(self, shape):
            assert shape == (4, 2)
            return np.array([[0, 0], [1, 0], [3, 0], [7, 0]]) / 8

    triples = random_graph(Points(), (4, 4), (2, 2))
    nodes = list(dict.fromkeys(triples[:, 0].tolist()))
    leads = [(nodes.index(a), nodes.index(b)) for a, _, b in triples.tolist()]
    assert leads == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 1), (2, 0), (3, 2), (3, 1)]
    assert len(set(triples[:, 1].tolist())) <= 4


def test_relations_are_400_and_different():
    assert list(tasks.RELATIONS) == list(range(10, 410))
    assert len(set(tasks.RELATIONS.values())) == 400
    lengths = Counter(map(len, tasks.RELATIONS.values()))
    assert lengths == {2: 100, 3: 100, 4: 100, 5: 100}
    assert {edge for edges in tasks.RELATIONS.values() for edge in edges} == set(
        range(10)
    )
    # They are fixed: a network that has learned them is of no use with others.
    assert tasks.RELATIONS[409] == (1, 6, 4, 1, 4)


def test_labels_and_orders_are_random():
    lesson = tasks.TRAVERSAL_LESSONS[-1]
    inputs = tasks.traversal_sequences(0, [lesson] * 60)[0]
    digits = np.concatenate(
        [
            [label(row[30 * i : 30 * i + 30]) for row in x[:30] for i in (0, 1, 2)]
            for x in inputs
        ]
    )
    counts = np.bincount(digits % 10, minlength=10) / len(digits)
    np.testing.assert_allclose(counts, 0.1, atol=0.03)
    assert digits.min() < 20 and digits.max() > 980
    # Were a node's edges told one after the other, sources would repeat.
    repeats = [(x[:29, :30] == x[1:30, :30]).all(1).mean() for x in inputs]
    assert np.mean(repeats) < 0.15


@every_task
def test_stream(name):
    solve, lessons = SOLVERS[name]
    dataset = stream(name, 2, lesson=2, review=0.5, seed=0)
    time = dataset.element_spec[0].shape[1]
    assert dataset.element_spec == (
        tf.TensorSpec((2, time, 92), tf.float32),
        tf.TensorSpec((2, time, 9, 10), tf.float32),
        tf.TensorSpec((2, time), tf.float32),
    )
    first, again = (list(dataset.take(3).as_numpy_iterator()) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        check(*one, solve)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (first[0][0] != first[1][0]).any(), "the batches repeat"
    # The hardest lesson fits.
    next(stream(name, 1, lesson=len(lessons), seed=0).as_numpy_iterator())


def test_a_function_as_the_lesson_is_asked_before_each_batch():
    number = 1
    dataset = tasks.traversal_task(4, lesson=lambda: number, review=0, seed=0)
    assert dataset.element_spec[0].shape == (4, None, 92)
    iterator = dataset.as_numpy_iterator()
    shapes = {}
    for number in (1, 7, 14, 1):
        batch = next(iterator)
        check(*batch, solve_traversal)
        shapes.setdefault(number, set()).add(batch[0].shape[1])
    # One length for each lesson: a compiled model compiles once for each.
    assert shapes == {1: {43}, 7: {91}, 14: {281}}


def test_a_tenth_comes_from_earlier_lessons():
    def answer_lengths(**kwargs):
        data = tasks.traversal_task(500, seed=0, **kwargs)
        return next(data.as_numpy_iterator())[2].sum(1) - 1

    # Lesson 1 has paths of one step, lesson 2 of one or two.
    share = np.mean(answer_lengths(lesson=2, review=0.4) == 1)
    expected = 0.4 + 0.6 * 0.5
    assert abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 500)
    share = np.mean(answer_lengths(lesson=2, review=0) == 1)
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(500)
    assert set(answer_lengths(lesson=1)) == {1}


def test_underground():
    names = tasks.underground(names=True).tolist()
    edges = read_graph(names)
    assert len(edges) == 43 and len(names) == 214
    assert edges["Bond Street"]["Central Line E"] == "Oxford Circus"
    assert edges["Oxford Circus"]["Central Line W"] == "Bond Street"
    assert edges["Waterloo"]["Jubilee Line W"] == "Westminster"
    # Every ride can be taken back on the same line.
    rides = {(a, ride.rsplit(" ", 1)[0], b) for a, ride, b in names}
    assert rides == {(b, line, a) for a, line, b in rides}
    labels = tasks.underground()
    assert labels.shape == (214, 3) and labels.dtype.kind == "i"
    assert sorted(Counter(labels[:, 0].tolist()).values()) == sorted(
        Counter(a for a, _, _ in names).values()
    )
    lesson = Lesson((43, 43), (1, 10), (7, 7))
    arrays = tasks.traversal_sequences(0, [lesson] * 3, labels)
    check(*arrays, solve_traversal)
    np.testing.assert_array_equal(arrays[2].sum(1), 8)
    assert len({triple(x[0, :90]) for x in arrays[0]}) == 3, "labels are the same"


def test_shortest_paths_on_the_underground_are_shortest():
    lesson = Lesson((43, 43), (1, 10), (4, 4))
    x, y, w = tasks.shortest_path_sequences(
        0, [lesson] * 3, tasks.underground(), unique=False
    )
    for i in range(3):
        (description, _), (query, _), *_ = read_phases(x[i])
        ((source, _, destination),) = query
        answer = [triple(y[i, t]) for t in np.flatnonzero(w[i])]
        paths = shortest_paths(read_graph(description), source, destination)
        assert answer[:-1] in paths and answer[-1] == END
        assert len(answer) == 5


def test_family_tree():
    edges = read_graph(family_tree().tolist())
    assert len(edges) == 14 and sum(map(len, edges.values())) == 44

    def relative(person, *names):
        for name in names:
            person = edges[person][TIES.index(name)]
        return person

    for person, ties in edges.items():
        for tie in ties:
            other, name = relative(person, TIES[tie]), TIES[tie]
            back = {
                "father": ("son", "daughter"),
                "mother": ("son", "daughter"),
                "brother": ("sister",),
                "sister": ("brother",),
                "son": ("father", "mother"),
                "daughter": ("father", "mother"),
                "husband": ("wife",),
                "wife": ("husband",),
            }[name]
            assert any(
                TIES.index(b) in edges[other] and relative(other, b) == person
                for b in back
            )
    # One's brother is one's mother's son, and she is the wife of one's father.
    for person in edges:
        if TIES.index("brother") in edges[person]:
            assert relative(person, "brother") == relative(person, "mother", "son")
            assert relative(person, "father", "wife") == relative(person, "mother")

    for length in (1, 2, 3, 4, 5):
        arrays = tasks.family_tree_sequences(0, [length] * 5)
        check(*arrays, solve_inference)
        for x in arrays[0]:
            for (query, _), *_ in questions_of(read_phases(x)[1:]):
                assert len(edges_of(query[0][1])) == length


def test_hints_are_the_edges_of_a_relation():
    lesson = tasks.INFERENCE_LESSONS[8]._replace(length=(1, 4))
    for task, asked in (("inference", [lesson] * 12), ("family_tree", [1, 2, 3, 4])):
        plain = sequences(task, 0, asked)
        x, y, w = sequences(task, 0, asked, hints="triples")
        labels = sequences(task, 0, asked, hints="labels")
        np.testing.assert_array_equal(x, plain[0])
        np.testing.assert_array_equal(x, labels[0])
        np.testing.assert_array_equal(w, labels[2])
        # The same, but of the edges the label alone.
        hinted = (w > 0) & (plain[2] == 0)
        np.testing.assert_array_equal(labels[1][:, :, 3:6], y[:, :, 3:6])
        np.testing.assert_array_equal(labels[1][~hinted], y[~hinted])
        assert not labels[1][hinted][:, [0, 1, 2, 6, 7, 8]].any()
        for i in range(len(x)):
            (description, _), *phases = read_phases(x[i])
            edges, expected = read_graph(description), {}
            # The first steps of planning: each second of the phases that begin here.
            starts = np.flatnonzero(x[i, :, 90])[1::3]
            questions = questions_of(phases)
            for start, ((query, _), _, _) in zip(starts, questions, strict=True):
                ((source, relation, _),) = query
                node = source
                for step, edge in enumerate(edges_of(relation)):
                    expected[start + step] = (node, edge, edges[node][edge])
                    node = edges[node][edge]
                expected[start + 10] = (source, relation, node)
            found = {t: triple(y[i, t]) for t in np.flatnonzero(w[i]).tolist()}
            assert found == expected


@pytest.mark.parametrize(
    ("name", "lesson", "expected"),
    [
        ("traversal", 3, "must be a list of `keras_sam.tasks.Lesson`"),
        ("traversal", Lesson((1, 3), (1, 2), (1, 1)), "`nodes` must be .* at least 2"),
        ("traversal", Lesson((5, 3), (1, 2), (1, 1)), "`nodes` must be .* at least 5"),
        ("traversal", Lesson((3, 1001), (1, 2), (1, 1)), "only 1000 labels"),
        ("shortest_path", Lesson((2, 2), (1, 1), (5, 5)), "have no single shortest"),
        ("inference", Lesson((4, 4), (2, 2), (2, 6)), "at most 5 edges"),
        ("inference", Lesson((15, 15), (11, 11), (2, 2)), "at most 10"),
    ],
)
def test_sequences_refuse(name, lesson, expected):
    with pytest.raises(ValueError, match=expected):
        sequences(name, 0, [lesson])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"lesson": 0}, "`lesson` must be an integer of at least 1"),
        ({"lesson": 15}, "`lesson` must be at most 14"),
        ({"review": 1.0}, "`review` must be a fraction"),
        ({"queries": 0}, "`queries` must be an integer of at least 1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
    ],
)
def test_streams_refuse(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        tasks.traversal_task(**{"batch_size": 2, **arguments})


def test_hints_are_the_shortest_path_from_its_end():
    lesson = tasks.SHORTEST_PATH_LESSONS[5]
    plain = tasks.shortest_path_sequences(0, [lesson] * 12, queries=2)
    x, y, w = tasks.shortest_path_sequences(0, [lesson] * 12, queries=2, guided=True)
    np.testing.assert_array_equal(x, plain[0])
    answered = plain[2] > 0
    np.testing.assert_array_equal(y[answered], plain[1][answered])
    for i in range(len(x)):
        hinted = np.flatnonzero((w[i] > 0) & ~answered[i])
        found = [triple(y[i, t]) for t in hinted]
        expected, steps = [], []
        starts = np.flatnonzero(x[i, :, 90])[1::3]  # of planning
        for start, (_, _, (shown, _)) in zip(
            starts, questions_of(read_phases(x[i])[1:]), strict=True
        ):
            expected += (shown[:0:-1] * 10)[:10]
            steps += range(start, start + 10)
        assert found == expected and hinted.tolist() == steps


@pytest.mark.parametrize("name", ["shortest_path", "inference", "family_tree"])
def test_no_question_is_refused(name):
    with pytest.raises(ValueError, match="`queries` must be an integer of at least 1"):
        stream(name, 2, queries=0)


@pytest.mark.parametrize("name", ["inference", "family_tree"])
def test_unknown_hints_are_refused(name):
    with pytest.raises(ValueError, match="one of 'none', 'labels', 'triples'"):
        stream(name, 2, hints=True)


def test_family_trees_refuse_longer_relations():
    with pytest.raises(ValueError, match="at most 5 ties"):
        tasks.family_tree_sequences(0, [6])
    with pytest.raises(ValueError, match="must be a non-empty list of lessons"):
        tasks.traversal_sequences(0, [])
