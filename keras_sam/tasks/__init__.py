"""The papers' tasks as endless, seeded `tf.data` streams, and their baseline."""

from keras_sam.tasks.associative_recall import (
    associative_recall_sequences,
    associative_recall_task,
)
from keras_sam.tasks.baseline import lstm_baseline
from keras_sam.tasks.copy import copy_sequences, copy_task
from keras_sam.tasks.dynamic_ngrams import (
    dynamic_ngrams_sequences,
    dynamic_ngrams_task,
    optimal_ngrams,
)
from keras_sam.tasks.family_tree import family_tree_sequences, family_tree_task
from keras_sam.tasks.formal_language import (
    FORMAL_LANGUAGES,
    formal_language_sequences,
    formal_language_task,
)
from keras_sam.tasks.graph import Lesson
from keras_sam.tasks.inference import (
    INFERENCE_LESSONS,
    RELATIONS,
    inference_sequences,
    inference_task,
)
from keras_sam.tasks.mqar import (
    MQAR_TEST,
    MQAR_TRAINING,
    mqar_sequences,
    mqar_task,
)
from keras_sam.tasks.omniglot import omniglot_sequences, omniglot_task
from keras_sam.tasks.order_recall import order_recall_sequences, order_recall_task
from keras_sam.tasks.priority_sort import priority_sort_sequences, priority_sort_task
from keras_sam.tasks.repeat_copy import repeat_copy_sequences, repeat_copy_task
from keras_sam.tasks.shortest_path import (
    SHORTEST_PATH_LESSONS,
    shortest_path_sequences,
    shortest_path_task,
)
from keras_sam.tasks.traversal import (
    TRAVERSAL_LESSONS,
    traversal_sequences,
    traversal_task,
    underground,
)

__all__ = [
    "FORMAL_LANGUAGES",
    "INFERENCE_LESSONS",
    "Lesson",
    "MQAR_TEST",
    "MQAR_TRAINING",
    "RELATIONS",
    "SHORTEST_PATH_LESSONS",
    "TRAVERSAL_LESSONS",
    "associative_recall_sequences",
    "associative_recall_task",
    "copy_sequences",
    "copy_task",
    "dynamic_ngrams_sequences",
    "dynamic_ngrams_task",
    "family_tree_sequences",
    "family_tree_task",
    "formal_language_sequences",
    "formal_language_task",
    "inference_sequences",
    "inference_task",
    "lstm_baseline",
    "mqar_sequences",
    "mqar_task",
    "optimal_ngrams",
    "omniglot_sequences",
    "omniglot_task",
    "order_recall_sequences",
    "order_recall_task",
    "priority_sort_sequences",
    "priority_sort_task",
    "repeat_copy_sequences",
    "repeat_copy_task",
    "shortest_path_sequences",
    "shortest_path_task",
    "traversal_sequences",
    "traversal_task",
    "underground",
]
