"""Rows that are so like another one that they are left to `python -m pytest -m slow`.

Each is a pattern of a test's name, as `fnmatch` reads it, with `(` and `)` instead of
`[` and `]`.
"""

import fnmatch
from pathlib import PurePath

PATTERNS = """
test_recurrence.py::test_sequence_equals_the_cell(reused-compiled)
test_recurrence.py::test_sequence_equals_the_cell(given_masked-in_place)
test_recurrence.py::test_sequence_equals_the_cell(all_read_masked-compiled)
test_recurrence.py::test_sequence_equals_the_cell(sdnc-in_place)
test_recurrence.py::test_sequence_equals_the_cell(sdnc_options_masked-compiled)
test_recurrence.py::test_dropout_is_the_same_in_both_passes(compiled-lstm)
test_recurrence.py::test_dropout_is_the_same_in_both_passes(in_place-stacked)
test_frozen.py::test_masked_steps_change_nothing(*-True)
test_frozen.py::test_masked_steps_change_nothing(sdnc_options-False)
test_frozen.py::test_in_a_process_with_tensorflow_alone
test_frozen.py::test_other_layers_start_from_their_states_too
test_run_backup.py::test_all_variables_come_back(options0)
test_run_backup.py::test_a_damaged_state_is_left_out(cut[12])
test_run_backup.py::test_a_damaged_state_is_left_out(flip[02])
test_engine_faults.py::test_nothing_is_recorded_where_nobody_asks*(call-False)
test_engine_faults.py::test_nothing_is_recorded_where_nobody_asks*(export-False)
test_engine_faults.py::test_gradients_are_the_cells_however*-False)
test_inputs.py::*sdnc*
test_stateful.py::*sdnc*
test_index_lsh.py::test_layer_equals_the_cell(-in_place)
test_index_lsh.py::test_layer_equals_the_cell(masked-compiled)
test_index_lsh.py::test_equal_words_tie_in_a_graph_too(*-float64)
test_leaks.py::test_nobody_holds_a_layer*(ntm_compiled-*)
test_leaks.py::test_nobody_holds_a_layer*(sam_compiled-*)
test_reloaded.py::*(sam-by_model_export-elsewhere)
test_reloaded.py::*(ntm-by_model_export-elsewhere)
test_reloaded.py::*(sam_cell-by_model_export-elsewhere)
test_conformance.py::test_rows_of_a_batch_are_independent(*_all_options)
test_conformance.py::test_gradients_stay_within_their_row(*_all_options)
test_conformance.py::test_keras_file_round_trip(rnn-*_all_options)
test_conformance.py::test_fit_changes_every_weight(mann_lstm)
test_sam_cell.py::test_eager_graph_and_xla_agree_with_their_gradients(*-graph)
test_docs.py::test_blocks_of_a_page_run(docs/guides/see-inside.md)
test_docs.py::test_blocks_of_a_page_run(docs/guides/text.md)
"""


def is_slow_row(nodeid):
    """Whether a test is one of these rows."""
    file, _, test = nodeid.partition("::")
    name = f"{PurePath(file).name}::{test}".replace("[", "(").replace("]", ")")
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS.split())
