"""The public names, one by one: whoever adds, renames or removes one does it here."""

import inspect

import pytest

import keras_sam

CELLS = ["NTM", "DNC", "DAM", "SAM", "SDNC", "MANN", "DNTM", "StackRNN"]
TASKS = [
    *("associative_recall", "copy", "dynamic_ngrams", "family_tree", "formal_language"),
    *("inference", "mqar", "omniglot"),
    *("order_recall", "priority_sort", "repeat_copy", "shortest_path", "traversal"),
]
NAMES = {
    "keras_sam": [
        *CELLS,
        *(f"{cell}Cell" for cell in CELLS),
        *("MemoryCell", "MemoryRNN", "SkipCell"),
        *("DynamicMemory", "EndToEndMemory"),
        *("RandomPositions", "SentenceEmbedding", "SinePositions", "ThinkSteps"),
        *(
            "callbacks",
            "distribute",
            "export",
            "index",
            "metrics",
            "models",
            "ops",
            "tasks",
        ),
        "visualize",
        *(
            "builtin_ops",
            "export_saved_model",
            "prefill",
            "resize_memory",
            "__version__",
        ),
    ],
    "export": ["builtin_ops", "export_saved_model", "prefill"],
    "ops": [
        *("content_weights", "cosine_similarity"),
        *("interpolate", "circular_shift", "sharpen"),
        *("read", "erase_and_add", "sparse_read", "sparse_write"),
        *("usage_after_write", "retention", "allocation_weights"),
        *("update_link", "update_precedence", "directional_weights"),
        *("SparseLinks", "empty_links", "update_sparse_links", "follow_links"),
    ],
    "index": ["Exact", "Index", "LSH", "ScaNN", "get"],
    "tasks": [
        *(f"{task}_task" for task in TASKS),
        *(f"{task}_sequences" for task in TASKS),
        *("Lesson", "RELATIONS", "underground", "optimal_ngrams", "lstm_baseline"),
        *("FORMAL_LANGUAGES", "MQAR_TEST", "MQAR_TRAINING"),
        *("INFERENCE_LESSONS", "SHORTEST_PATH_LESSONS", "TRAVERSAL_LESSONS"),
    ],
    "callbacks": [
        *("Curriculum", "ExponentialCurriculum", "LessonCurriculum"),
        *("MemoryTensorBoard", "RunBackup"),
    ],
    "distribute": ["MultiWorkerStrategy", "run_local_workers"],
    "models": ["list", "load"],
    "metrics": ["BitErrors", "SequenceAccuracy"],
    "visualize": [
        *("Recording", "record", "plot", "plot_memory", "plot_attention"),
        *("plot_stacks", "animate", "pixels"),
    ],
}


def public_names(module):
    """What a module lists, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("name", NAMES)
def test_public_names(name):
    module = keras_sam if name == "keras_sam" else getattr(keras_sam, name)
    names = public_names(module)
    assert sorted(names) == sorted(NAMES[name])
    for public in names:
        assert hasattr(module, public), public


def test_every_public_module_is_pinned():
    modules = filter(
        lambda n: inspect.ismodule(getattr(keras_sam, n)), keras_sam.__all__
    )
    assert {"keras_sam", *modules} == set(NAMES)


def test_the_names_at_the_top_are_those_of_their_modules():
    for name in keras_sam.export.__all__:
        assert getattr(keras_sam, name) is getattr(keras_sam.export, name)
