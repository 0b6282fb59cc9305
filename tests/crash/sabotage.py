"""Breaks the lake on purpose, one line at a time, and sees whether a test notices.

    python -m tests.crash.sabotage [NAME…]        (`make sabotage`; NAME: only these)

Each break is made in a copy of the checkout. A break that no test notices is a missing test, and
ends this with exit code 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "ducklake",
    "techstore",
    "producers",
    "consumers",
    "batcher",
    "stack",
    "lake",
    "connect",
    "dbt_ducklake",
    "dbt_techstore",
    "docker",
    "benchmarks",
    "tests",
    "ducklake.yml",
    "pyproject.toml",
)
SECONDS = 900
ALERTS, METRICS = "tests/unit/test_alerts.py", "tests/unit/test_metrics.py"
PAGE = "tests/unit/test_dashboard.py"
ICEBERG = "tests/unit/test_iceberg.py"
COMMITS, CORE = "lake/ledger/commits.py", "lake/ledger/core.py"
FILLING, SQLITE = "lake/ledger/backfilling.py", "lake/ledger/sqlite.py"
SCHEMA, STATEMENTS = "lake/ledger/migrations.py", "lake/ledger/statements.py"
PINS, FORMATS = "lake/ledger/pins.py", "lake/formats.py"
OPERATIONS, PARQUET = "lake/storage/operations.py", "lake/storage/parquet_files.py"
SESSION = "lake/storage/session.py"
COMPACTOR, RECOVERY = "consumers/compaction/compactor.py", "lake/recovery.py"
OLD_LEDGER = "lake/ledger/staleness.py"
HOT, PLANNING, BUFFER = (
    "consumers/ingest/flush.py",
    "consumers/ingest/planning.py",
    "consumers/ingest/buffer.py",
)
WRITER, DAYS = "consumers/ingest/lake_writer.py", "consumers/compaction/date_rewrite.py"
MEMBERSHIP = "consumers/ingest/membership.py"
JOINING, JOINABLE = "lake/ledger/joining.py", "lake/ledger/joinable.py"
JOINS = "tests/unit/test_ledger_joins.py"
GENERATIONS, OFFSETS = "lake/ledger/generations.py", "lake/ledger/offsets.py"
LEDGER_FILES, SWITCH = "lake/ledger/files.py", "lake/ledger/switch.py"
SEALS, REUSE = "lake/ledger/compactions.py", "consumers/replay/reuse.py"
REWRITES = "lake/ledger/date_rewrites.py"
CATCH_UP, LOST_FILES = "consumers/replay/generation_switch.py", "consumers/replay/lost_files.py"
REPLAYS = "tests/crash/test_replay.py"
CHANGES = "tests/integration/test_postgres_changes.py"
EXPORT = "tests/integration/test_postgres_export.py"
DEAD_LETTERS = "tests/crash/test_dead_letters.py"
SPANS = "consumers/replay/offset_ranges.py"
CHOICE, FOUND_FILES = (
    "consumers/maintenance/ledger_rebuild/choice.py",
    "consumers/maintenance/ledger_rebuild/found_files.py",
)
BACKUP = "consumers/maintenance/backup.py"
REPLACING, IN_USE = "lake/ledger/replacing.py", "tests/unit/test_replacing.py"
STORIES = "tests/crash/test_state_machine.py"
MODEL = f"{STORIES}::TestLake"
COMPACTION = "tests/crash/test_state_machine.py::test_a_compaction_interrupted_at_any_step"
UNIT = "tests/unit/test_ledger.py"
TYPES = "tests/unit/test_mysql_types.py"
KAFKA = "tests/crash/test_kafka_faults.py"
LOST = "tests/crash/test_lost_ledger.py"
POWER = "tests/crash/test_power_loss.py::test_a_power_cut_at_any_moment_loses_and_repeats_nothing"
BOOKS = "tests/unit/test_generations.py"
TAKEN_OVER = "tests/unit/test_reuse.py"
DIFFERENCES = "ducklake/reconciliation/differences.py"
RECONCILED = "tests/unit/test_reconciliation.py"
ARITHMETIC = "tests/unit/test_replay_spans.py"
API_ANSWERS = "tests/unit/test_rest_answers.py"
API_TABLES = "tests/unit/test_rest_tables.py"
ODD_FILES, FILES = "tests/unit/test_odd_files.py", "tests/unit/test_files_source.py"
READING, DECODED = "producers/files/reading.py", "tests/unit/test_decode.py"
SELECTED = "tests/integration/test_model_selection.py"
WHOLE_MODELS = (
    "tests/integration/test_incremental_models.py::test_models_equal_those_computed_from_nothing"
)
TRACKED, DATA_TESTS = "dbt_ducklake/macros/change_tracked.sql", "dbt_ducklake/macros/tests.sql"


@dataclass(frozen=True)
class Break:
    """One line that is broken, and the test that must turn red."""

    name: str
    file: str
    old: str
    new: str
    test: str


BREAKS = (
    Break(
        "iceberg: replaced files are not looked for",
        "consumers/catalogs/planning.py",
        "if sealed.known != listed:",
        "if sealed.known is None:",
        f"{ICEBERG}::test_a_rewritten_date_replaces_its_files_in_one_snapshot",
    ),
    Break(
        "cycles: two at once",
        "batcher/cycle.py",
        "with cycle_lock(self._lake.paths, wait):",
        "if True:",
        "tests/unit/test_cycle_lock.py",
    ),
    Break(
        "random changes: groups that rows left are not computed",
        "dbt_ducklake/macros/changes.sql",
        "_image in ('old', 'new')",
        "_image = 'new'",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: an older version overwrites a newer one",
        TRACKED,
        "' or (known.epoch, known.position) < (record._topic_epoch, record._offset);'",
        "' or true;'",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: positions begin again in a new epoch",
        TRACKED,
        "' or (known.epoch, known.position) < (record._topic_epoch, record._offset);'",
        "' or known.position < record._offset;'",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: positions of deleted rows are not kept",
        TRACKED,
        "', _topic_epoch, _offset, _is_deleted from ducklake_newer;'",
        "', _topic_epoch, _offset, _is_deleted from ducklake_newer where not _is_deleted;'",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: an emptied table keeps its old rows",
        "batcher/model_build.py",
        "for m in plan.models if m.reads_versions and emptied & set(m.sources)}",
        "for m in plan.models if not emptied}",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: nobody knows of a model built from nothing",
        TRACKED,
        '"insert into ducklake.rebuilt select \'"',
        '"insert into ducklake.rebuilt select \'x."',
        WHOLE_MODELS,
    ),
    Break(
        "random changes: another generation is the same history",
        "batcher/selection.py",
        "now is None or then is None or now.generation != then.generation",
        "now is None or then is None",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: a model does not say what touches it",
        "dbt_techstore/models/intermediate/int_order_lines.sql",
        "dbt_ducklake.changes(ref('stg_orders')) }}\n{% endcall %}",
        "dbt_ducklake.changes(ref('stg_orders')) }} where false\n{% endcall %}",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: a layer does not hide what it replaces",
        "batcher/snapshot.py",
        "    masks = [layer for layer in later if layer.gone]\n",
        "    masks: list[Layer] = []\n",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: what was built in a failed cycle is forgotten",
        "batcher/selection.py",
        "        if then is not None and then.seen > state.models[model.relation].seen:\n",
        "        if False:\n",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: changes are dropped before they are read",
        "batcher/model_build.py",
        "readers[model.relation] = min([tested, *children, *outside])",
        "readers[model.relation] = result.number",
        WHOLE_MODELS,
    ),
    Break(
        "random changes: what is behind a changed model is left alone",
        "batcher/changed_models.py",
        "            if parent in chosen and parent not in self._unchanged:",
        "            if parent in chosen and parent in self._unchanged:",
        WHOLE_MODELS,
    ),
    Break(
        "an older version overwrites a newer one",
        TRACKED,
        "' or (known.epoch, known.position) < (record._topic_epoch, record._offset);'",
        "' or true;'",
        f"{SELECTED}::test_an_older_version_that_comes_late_changes_nothing",
    ),
    Break(
        "positions of deleted rows are not kept",
        TRACKED,
        "', _topic_epoch, _offset, _is_deleted from ducklake_newer;'",
        "', _topic_epoch, _offset, _is_deleted from ducklake_newer where not _is_deleted;'",
        f"{SELECTED}::test_an_older_version_that_comes_late_changes_nothing",
    ),
    Break(
        "the group that a row has left is not computed",
        "dbt_ducklake/macros/changes.sql",
        "_image in ('old', 'new')",
        "_image = 'new'",
        f"{SELECTED}::test_a_row_that_moves_changes_both_groups",
    ),
    Break(
        "groups that are empty now stay",
        TRACKED,
        "'delete from ' ~ target ~ ' as target using ducklake_touched as touched where '",
        "'delete from ' ~ target ~ ' as target using ducklake_rows as rows, ducklake_touched as'"
        " ~ ' touched where rows.' ~ group_by[0] ~ ' = touched.k1 and '",
        f"{SELECTED}::test_a_row_that_moves_changes_both_groups",
    ),
    Break(
        "a model's text that depends on data is kept",
        "batcher/dbt_graph.py",
        "    return not any(_ASKS.search(part) for part in code)",
        "    return bool(code)",
        f"{SELECTED}::test_a_model_whose_text_depends_on_data_is_rendered_in_each_cycle",
    ),
    Break(
        "what is behind a changed model is left alone",
        "batcher/changed_models.py",
        "            if parent in chosen and parent not in self._unchanged:",
        "            if parent in chosen and parent in self._unchanged:",
        f"{SELECTED}::test_a_row_that_moves_changes_both_groups",
    ),
    Break(
        "a model is skipped behind a late record for good",
        "batcher/changed_models.py",
        "            if then is None or then.seen > seen:",
        "            if then is not None and then.seen <= seen:",
        f"{SELECTED}::test_models_behind_one_that_stays_as_it_was_are_left_alone",
    ),
    Break(
        "only new commits of the highest offsets are new",
        "batcher/raw_inputs.py",
        "                self._known[name, after] = bool(found)\n",
        "                self._known[name, after] = any(\n"
        "                    span.last + 1 >= max((self._ledger.tables.get(ref.topic)"
        " or None).positions.values()) for rows in found for span in rows.ranges\n"
        "                )\n",
        f"{SELECTED}::test_rows_below_the_newest_offset_are_new_as_well",
    ),
    Break(
        "an edited model is not noticed",
        "batcher/selection.py",
        "if known.fingerprint != model.fingerprint:",
        "if False:",
        f"{SELECTED}::test_an_edited_model_is_built_once_with_what_is_behind_it",
    ),
    Break(
        "an edited macro is not noticed",
        "batcher/dbt_graph.py",
        "*(each.raw_code for each in inlined), *macros.values()]",
        "*(each.raw_code for each in inlined)]",
        f"{SELECTED}::test_an_edited_macro_selects_the_models_that_call_it",
    ),
    Break(
        "the number of a killed cycle is given again",
        "batcher/model_state.py",
        "SELECT coalesce(max(number), 0) + 1 FROM ducklake.cycle",
        "SELECT coalesce(max(number), 1) FROM ducklake.cycle",
        f"{SELECTED}::test_a_row_that_changes_before_and_after_a_kill_is_published_once",
    ),
    Break(
        "what a killed cycle has changed is computed no further",
        TRACKED,
        "~ ' where _cycle > (select seen from ducklake.models where relation = \\''",
        "~ ' where _cycle = ' ~ dbt_ducklake.cycle_number() ~ ' and \\'\\' <> (select \\''",
        f"{SELECTED}::test_a_row_that_changes_before_and_after_a_kill_is_published_once",
    ),
    Break(
        "an edit in a package that is a link is not noticed",
        "batcher/dbt_packages.py",
        'f"*/**/*.{ending}"',
        'f"**/*.{ending}"',
        f"{SELECTED}::test_an_edited_package_is_noticed_where_it_is_a_link",
    ),
    Break(
        "an edited test is not noticed",
        "batcher/selection.py",
        "    return known is not None and known.tests != model.tests\n",
        "    return False\n",
        f"{SELECTED}::test_an_edited_test_reads_all_rows_though_nothing_was_committed",
    ),
    Break(
        "an edited test reads what changed alone",
        "batcher/model_tests.py",
        "tested_whole(self.dbt.ask, self.state) | self.plan.retested",
        "tested_whole(self.dbt.ask, self.state)",
        f"{SELECTED}::test_an_edited_test_reads_all_rows_though_nothing_was_committed",
    ),
    Break(
        "a deleted parent is not looked at",
        DATA_TESTS,
        "    {%- if not lost -%}{{ return(changed) }}{%- endif -%}\n",
        "    {{ return(changed) }}\n",
        f"{SELECTED}::test_a_row_that_others_refer_to_is_missed_as_it_goes",
    ),
    Break(
        "changes beside the latest versions are missed",
        "dbt_ducklake/macros/state.sql",
        "(inputs | length > 1 or 'dbt_ducklake.touched' in model.raw_code)",
        "('dbt_ducklake.touched' in model.raw_code)",
        f"{SELECTED}::test_latest_versions_beside_something_else_miss_no_change_of_it",
    ),
    Break(
        "a plain table counts as one that tells its changes",
        "dbt_ducklake/macros/state.sql",
        "(inputs | length > 1 or 'dbt_ducklake.touched' in model.raw_code)",
        "inputs | length > 1",
        f"{SELECTED}::test_groups_of_a_model_that_reads_a_plain_table_are_all_computed",
    ),
    Break(
        "a failed test of raw is over in the next cycle",
        "batcher/model_tests.py",
        "is_asked_again = test.unique_id in self.state.failing and not",
        "is_asked_again = False and not",
        f"{SELECTED}::test_a_failed_test_of_raw_holds_back_until_it_is_green",
    ),
    Break(
        "tests of raw read views of an earlier commit",
        "batcher/model_tests.py",
        "        if stale:\n",
        "        if False:\n",
        f"{SELECTED}::test_a_key_is_unique_in_raw_among_old_rows_as_well",
    ),
    Break(
        "a warning is over though nobody looked",
        "batcher/failures.py",
        "if test in tests and test not in asked",
        "if False",
        f"{SELECTED}::test_a_key_is_unique_in_raw_among_old_rows_as_well",
    ),
    Break(
        "what no test has read is published",
        "batcher/outcome.py",
        "        elif found.status == SKIPPED and found.test.severity == ERROR:\n",
        "        elif False:\n",
        f"{SELECTED}::test_what_no_test_has_read_is_not_published",
    ),
    Break(
        "an edited seed is not noticed",
        "batcher/dbt_graph.py",
        "        rows = [seed.checksum.checksum for seed in seeds]\n",
        "        rows = [seed.name for seed in seeds]\n",
        f"{SELECTED}::test_an_edited_seed_and_what_is_inlined_are_noticed",
    ),
    Break(
        "an edited description waits for rows",
        "batcher/selection.py",
        "return DESCRIBED if known.described != model.described else None",
        "return None",
        f"{SELECTED}::test_an_edited_description_is_published_without_a_change_of_rows",
    ),
    Break(
        "full tests wait for rows",
        "batcher/model_build.py",
        "return is_edited or self._today() != result.day or self._full_tests_due(result.state)",
        "return is_edited or self._today() != result.day",
        f"{SELECTED}::test_full_tests_are_due_though_nothing_arrives",
    ),
    Break(
        "a model that is not green is forgotten",
        "batcher/selection.py",
        "    if known.failure is not None:\n",
        "    if False:\n",
        f"{SELECTED}::test_a_failed_test_holds_back_until_it_is_green",
    ),
    Break(
        "tests look at the last cycle alone",
        "batcher/states_after.py",
        "tested = before.number if green else (known.tested if known else -1)",
        "tested = before.number",
        f"{SELECTED}::test_a_failed_test_holds_back_until_it_is_green",
    ),
    Break(
        "what the full tests find is forgotten",
        "batcher/states_after.py",
        "return model if model.failure is None else replace(model, tested=-1)",
        "return model",
        f"{SELECTED}::test_what_the_full_tests_find_in_old_rows_holds_back_until_it_is_green",
    ),
    Break(
        "a warning is an error",
        "batcher/data_tests.py",
        "        if errs and self.severity == ERROR:\n",
        "        if errs:\n",
        "tests/unit/test_data_tests.py::test_the_verdict_is_that_of_the_project",
    ),
    Break(
        "a failed cycle is tried at once for ever",
        "batcher/pace.py",
        "        self._start_at = now + self._backoff.pause()\n",
        "        self._start_at = now\n",
        "tests/unit/test_cycle_pace.py"
        "::test_a_cycle_that_fails_is_tried_again_after_a_longer_pause_each_time",
    ),
    Break(
        "a test reads what a row was in between",
        DATA_TESTS,
        "_image = 'new' and _cycle = _newest)",
        "_image = 'new')",
        f"{SELECTED}::test_a_failed_test_holds_back_until_it_is_green",
    ),
    Break(
        "the day is no input",
        "batcher/selection.py",
        "if model.reads_today and known.day != day:",
        "if False:",
        f"{SELECTED}::test_a_new_day_selects_what_asks_for_today",
    ),
    Break(
        "a layer does not hide what it replaces",
        "batcher/snapshot.py",
        "    masks = [layer for layer in later if layer.gone]\n",
        "    masks: list[Layer] = []\n",
        f"{SELECTED}::test_a_large_model_is_published_in_layers",
    ),
    Break(
        "changes that the publication needs are dropped",
        "batcher/model_build.py",
        "            outside = [published[model.relation]] if model.relation in published else []\n"
        "            tested = known.tested if known.tested >= 0 else known.seen\n"
        "            readers[model.relation] = min([tested, *children, *outside])",
        "            readers[model.relation] = result.number",
        f"{SELECTED}::test_a_failed_test_holds_back_until_it_is_green",
    ),
    Break(
        "two exports append the same rows",
        "batcher/postgres/raw_writer.py",
        "            claim(cursor, self.relation)\n"
        "            table = known_table(cursor, self.relation)\n"
        "            known = None\n",
        "            table = known_table(cursor, self.relation)\n            known = None\n",
        f"{CHANGES}::test_two_exports_at_once_write_each_row_once",
    ),
    Break(
        "a smaller window is forgotten",
        "batcher/postgres/raw_writer.py",
        "if known.kept_from is not None and (",
        "if False and (",
        f"{CHANGES}::test_a_window_of_days_keeps_its_rows_and_a_larger_one_brings_the_others_back",
    ),
    Break(
        "one refused model undoes all",
        "batcher/postgres/model_export.py",
        "with self._database.savepoint(cursor, writer.relation):",
        "if True:",
        f"{CHANGES}" "::test_models_of_a_cycle_appear_at_once_but_for_the_one_that_is_refused",
    ),
    Break(
        "deferred constraints are left to the commit",
        "batcher/postgres/database.py",
        'cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")',
        "pass",
        f"{CHANGES}" "::test_what_a_constraint_checks_at_the_end_holds_back_its_own_model_alone",
    ),
    Break(
        "readers queue behind a new column",
        "batcher/postgres/database.py",
        "SHUT_LOCK_MILLISECONDS = 50",
        "SHUT_LOCK_MILLISECONDS = 1_500",
        f"{CHANGES}" "::test_a_new_column_waits_for_readers_in_moments_and_they_do_not_wait_for_it",
    ),
    Break(
        "half of a failed query is exported",
        "batcher/postgres/copying.py",
        "        if failure is not None:\n",
        "        if False:\n",
        f"{CHANGES}::test_a_query_that_fails_halfway_leaves_no_half_of_its_rows",
    ),
    Break(
        "a user's comment is overwritten",
        "batcher/postgres/comments.py",
        "if said is not None and said not in (ours.get(place), text):",
        "if False:",
        f"{CHANGES}::test_descriptions_are_comments_unless_somebody_wrote_their_own",
    ),
    Break(
        "a column that a model has no longer keeps its values",
        "batcher/postgres/left_columns.py",
        "    empty(cursor, relation, fresh)\n",
        "",
        EXPORT + "::test_a_column_that_a_model_loses_stays_empty_until_somebody_drops_it",
    ),
    Break(
        "a column that a model has no longer refuses rows without a value",
        "batcher/postgres/model_writer.py",
        "allow_null(cursor, self.relation, (former & table.not_null) - bound)",
        "pass",
        EXPORT + "::test_a_key_that_a_model_has_no_longer_refuses_none_of_its_rows",
    ),
    Break(
        "a new column stays empty in unchanged rows",
        "batcher/postgres/model_writer.py",
        "if known is not None and known.columns == self._columns_digest():",
        "if known is not None:",
        f"{CHANGES}::test_a_new_column_is_filled_though_the_log_names_few_rows",
    ),
    Break(
        "ranges joined across a hole",
        JOINABLE,
        "or not (loose if loose.ranges else run).meets(held)",
        "",
        f"{JOINS}::test_what_is_missing_between_two_ranges_stays_visible",
    ),
    Break(
        "ranges of private files joined",
        JOINABLE,
        "is_fixed = is_kept or hot or",
        "is_fixed = is_kept or",
        f"{JOINS}::test_a_range_stays_by_itself_while_its_commit_has_a_private_file",
    ),
    Break(
        "ranges joined that a reader has not passed",
        JOINING,
        "row[7] > passed)",
        "False)",
        f"{JOINS}::test_nothing_is_joined_that_a_reader_has_not_passed",
    ),
    Break(
        "a reader that was away gets a wrong answer",
        OFFSETS,
        "    if not tells_apart(db, topic, generation, commit):",
        "    if False:",
        f"{JOINS}::test_a_reader_that_comes_back_late_is_told_to_take_everything",
    ),
    Break(
        "PostgreSQL comes back late and gets a part",
        "batcher/postgres/raw_writer.py",
        "if not self.ledger.files.tells_apart(state.topic, state.commit, self.commit):",
        "if False:",
        "tests/integration/test_postgres_export.py"
        "::test_a_database_that_comes_back_late_takes_everything_once",
    ),
    Break(
        "flushes without a pause",
        PLANNING,
        "self._took.get(table, 0.0) * active / FLUSH_SHARE",
        "0.0",
        "tests/unit/test_planning.py"
        "::test_flushes_before_the_age_limit_take_a_share_of_a_worker_s_time",
    ),
    Break(
        "a quiet table waits for the age limit",
        PLANNING,
        "        allowed\n        or buffer.rows",
        "        buffer.rows",
        "tests/unit/test_planning.py"
        "::test_a_quiet_table_is_flushed_at_once_and_a_busy_one_as_often_as_flushes_are_cheap",
    ),
    Break(
        "rows behind a held-back model count as published",
        "batcher/freshness.py",
        "for hop in ends if hop not in behind)",
        "for hop in ends)",
        "tests/unit/test_freshness.py"
        "::test_rows_behind_a_held_back_model_are_stalled_until_it_is_green",
    ),
    Break(
        "late rows do not count as late",
        "batcher/freshness.py",
        "known.get((ref.topic, hop), 0) for hop in hops_here}",
        "max(known.values(), default=0) for hop in hops_here}",
        "tests/unit/test_freshness.py"
        "::test_a_hop_that_was_not_reached_is_counted_from_where_it_stood",
    ),
    Break(
        "idle looks stalled",
        "ducklake/supervision/freshness.py",
        "        if since is None:\n            return HopFreshness(CURRENT)\n",
        "        since = since or 0.0\n",
        "tests/unit/test_freshness.py::test_a_table_to_which_nothing_new_comes_is_idle_not_stalled",
    ),
    Break(
        "stalled looks as if it arrived",
        "ducklake/supervision/freshness.py",
        "STALLED if waited >= patience else ARRIVING",
        "ARRIVING",
        "tests/unit/test_freshness.py::test_what_waits_in_kafka_arrives_or_is_stalled",
    ),
    Break(
        "ranges joined under a rebuild",
        JOINING,
        "    if _is_changing(db, topic):",
        "    if False:",
        f"{JOINS}::test_what_a_rebuild_takes_over_by_number_stays_as_it_is",
    ),
    Break(
        "ranges joined under a pin",
        "lake/ledger/readers.py",
        "    passed += [commit for session, commit in pins if is_alive(session)]",
        "",
        f"{JOINS}::test_what_a_pin_or_a_replay_looks_at_stays_as_it_is",
    ),
    Break(
        "nothing is joined",
        JOINABLE,
        "        run.add(held)\n        loose",
        "        run = _Run()\n        run.add(held)\n        loose",
        f"{JOINS}::test_a_million_flushes_leave_a_ledger_below_50_mb",
    ),
    Break(
        "rows counted range by range",
        SCHEMA,
        "ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
        "ON CONFLICT DO NOTHING",
        f"{JOINS}::test_ranges_of_one_public_file_that_meet_become_one",
    ),
    Break(
        "dead letters without a limit",
        "consumers/ingest/lake_writer.py",
        "self._gates.check(topic, decoded.dead_letters)",
        "pass",
        f"{DEAD_LETTERS}::test_a_full_quarantine_stops_the_table_until_there_is_room",
    ),
    Break(
        "what is dropped is kept",
        "consumers/ingest/decoding/decoder.py",
        "self._drops = table.dead_letters.policy == DROP",
        "self._drops = False",
        f"{DEAD_LETTERS}::test_what_is_only_counted_is_counted_once_whoever_is_killed",
    ),
    Break(
        "rejects without a limit",
        "producers/reject_limits.py",
        "if not batch.rejects or batch.table not in self._limits:",
        "if True:",
        "tests/unit/test_reject_limits.py::test_garbage_without_end_fills_no_disk",
    ),
    Break(
        "an inferred type takes what DuckDB takes",
        "lake/storage/casts.py",
        "exact = _printed_otherwise(cast, text, type_)",
        "return cast",
        "tests/unit/test_exact_values.py::test_an_inferred_type_never_alters_a_value",
    ),
    Break(
        "a declared type cuts off",
        "lake/storage/casts.py",
        "if spelling is Spelling.DECLARED:",
        "if False:",
        "tests/unit/test_exact_values.py::test_a_declared_moment_loses_neither_its_offset_nor_a_digit",
    ),
    Break(
        "a polled row is settled as soon as it was read",
        "producers/mysql/polling/cursor.py",
        "return self.now - moment >= self.late_seconds",
        "return self.now - moment >= 0",
        "tests/unit/test_poll_window.py",
    ),
    Break(
        "a polled row that was sent is not remembered",
        "producers/mysql/polling/cursor.py",
        "seen = frozenset(self.known | self.met | self.to_come)",
        "seen = frozenset(self.known)",
        "tests/unit/test_poll_window.py",
    ),
    Break(
        "a watermark to come is passed",
        "producers/mysql/polling/cursor.py",
        "        if not is_temporal(self.watermark):\n            return False\n",
        "        if self.watermark:\n            return False\n",
        "tests/unit/test_poll_window.py",
    ),
    Break(
        "a lost binlog looks as if it were retried",
        "producers/source_loop.py",
        "return STOPPED if isinstance(error, BinlogLost) else RETRYING",
        "return RETRYING",
        "tests/unit/test_source_states.py",
    ),
    Break(
        "no fence",
        COMMITS,
        "if positions.get(partition) != start:",
        "if False:",
        f"{UNIT}::test_a_zombie_is_fenced_and_leaves_nothing",
    ),
    Break(
        "no fence, two who have read the same",
        COMMITS,
        "if positions.get(partition) != start:",
        "if False:",
        f"{STORIES}::test_what_two_have_read_is_committed_once",
    ),
    Break(
        "ranges not unique",
        SCHEMA,
        "rows INTEGER NOT NULL, commit_no INTEGER NOT NULL,\n"
        "    PRIMARY KEY (topic, generation, topic_id, partition, first)\n) STRICT, WITHOUT ROWID;",
        "rows INTEGER NOT NULL, commit_no INTEGER NOT NULL\n) STRICT;",
        f"{UNIT}::test_a_range_is_unique_even_where_the_position_was_lost",
    ),
    Break(
        "schema written over",
        STATEMENTS,
        '" WHERE topic = ? AND schema_version = ?",',
        '" WHERE topic = ? AND ? >= 0",',
        f"{UNIT}::test_two_workers_that_change_the_schema_do_not_overwrite_each_other",
    ),
    Break(
        "bytes of dead letters not kept",
        COMMITS,
        "        self._payloads.add(state.topic_id, dead_letters)\n"
        "        with self._core.write() as db:\n            self._fence",
        "        with self._core.write() as db:\n            self._fence",
        f"{UNIT}::test_dead_letters_are_committed_with_their_range",
    ),
    Break(
        "a redriven row stays a dead letter",
        COMMITS,
        "                [(*place, offset) for offset in offsets],\n            ).rowcount\n"
        "            if gone != len(offsets):",
        "                [(*place, -1) for offset in offsets],\n            ).rowcount\n"
        "            if False:",
        f"{DEAD_LETTERS}::test_a_type_that_was_mended_brings_them_back_at_their_offsets",
    ),
    Break(
        "a rebuild forgets what was dropped",
        SWITCH,
        "was.state <> dead_letters.state",
        "was.state = 'dead'",
        f"{DEAD_LETTERS}::test_what_is_dropped_is_counted_no_more_and_stays_known",
    ),
    Break(
        "dead letters forgotten",
        STATEMENTS,
        "for d in dead_letters\n",
        "for d in ()\n",
        f"{UNIT}::test_dead_letters_are_committed_with_their_range",
    ),
    Break(
        "offsets before the file",
        HOT,
        '    failpoint("commit.before_write")\n',
        "    ledger.commits.add(\n        flush.state, session.id, flush.ranges, flush.starts,"
        " None, flush.schema, flush.dead_letters\n    )\n",
        MODEL,
    ),
    Break(
        "ledger before the rename",
        HOT,
        "        move_into_place(staged.path, final)\n",
        "        pass\n",
        MODEL,
    ),
    Break(
        "no temporary file",
        COMPACTOR,
        'staged = self.session.folder / f"{day.isoformat()}-{name}"\n',
        "staged = self.paths.day(ref, day, state.generation) / name\n"
        "        make_folder(staged.parent)\n",
        COMPACTION,
    ),
    Break(
        "rename before the intent",
        COMPACTOR,
        '        failpoint("seal.before_intent")\n',
        "        for o in outputs:\n"
        "            move_into_place(self.paths.root / o.staged, self.paths.root / o.final)\n"
        '        failpoint("seal.before_intent")\n',
        COMPACTION,
    ),
    Break(
        "flip before the rename",
        RECOVERY,
        "    for out in compaction.intent.outputs:\n",
        "    ledger.compactions.flip(compaction.number, compaction.topic, compaction.intent)\n"
        "    for out in compaction.intent.outputs:\n",
        COMPACTION,
    ),
    Break(
        "deleted while pinned",
        RECOVERY,
        "files.obsolete(before=oldest)",
        "files.obsolete(before=math.inf)",
        f"{STORIES}::test_what_is_replaced_stays_while_a_reader_has_pinned_it",
    ),
    Break(
        "pins by the clock alone",
        CORE,
        "return max(now(), math.nextafter(latest, math.inf))",
        "return now()",
        f"{UNIT}::test_a_pin_keeps_what_is_replaced_after_it_whatever_the_clock_says",
    ),
    Break(
        "a day's file holds every day",
        COMPACTOR,
        'f" AND _kafka_ts::DATE = {literal(day.isoformat())} ORDER BY _offset"',
        'f" ORDER BY _offset"',
        COMPACTION,
    ),
    Break(
        "two topics in one file",
        COMPACTOR,
        "return [f for f in hot if topics[f.file_id] == topics[hot[0].file_id]]",
        "return list(hot)",
        "tests/crash/test_state_machine.py::test_rows_of_a_topic_made_anew_get_files_of_their_own",
    ),
    Break(
        "a compaction begun twice",
        COMPACTOR,
        "        self._finish_open()\n        made = 0\n",
        "        made = 0\n",
        COMPACTION,
    ),
    Break(
        "recovery takes intended files",
        RECOVERY,
        'known = intended | ledger.files.known_paths("hot")',
        'known = ledger.files.known_paths("hot")',
        COMPACTION,
    ),
    Break(
        "recovery touches living sessions",
        RECOVERY,
        "if not _is_owned(paths, p)]",
        "if True]",
        "tests/unit/test_lake_files.py"
        "::test_recovery_leaves_living_sessions_alone_and_deletes_nothing",
    ),
    Break(
        "recovery deletes",
        RECOVERY,
        "target = quarantine(paths, path)",
        "path.unlink(); target = path",
        "tests/unit/test_lake_files.py"
        "::test_recovery_leaves_living_sessions_alone_and_deletes_nothing",
    ),
    Break(
        "seek without filter",
        BUFFER,
        "if run[0].offset() < position:",
        "if False:",
        "tests/unit/test_planning.py::test_what_is_behind_the_position_is_not_taken_again",
    ),
    Break(
        "loss is silent",
        PLANNING,
        "if position is None or position >= marks.low:",
        "if True:",
        "tests/unit/test_planning.py::test_only_what_was_not_read_is_lost",
    ),
    Break(
        "half files stay on a full disk",
        PARQUET,
        "        remove_file(self.path)\n",
        "        pass\n",
        "tests/unit/test_lake_files.py::test_a_full_disk_leaves_no_half_file",
    ),
    Break(
        "no sync of the folder",
        OPERATIONS,
        '        failpoint("move.before_sync")\n        sync_folder(target.parent)\n',
        '        failpoint("move.before_sync")\n',
        "tests/unit/test_lake_files.py"
        "::test_a_file_has_its_name_only_when_it_and_its_folder_are_safe",
    ),
    Break(
        "a topic made anew is not noticed",
        WRITER,
        "        if not self._assignment.is_same_topic(topic):\n            return\n",
        "",
        f"{KAFKA}::test_a_recreated_topic_stops_its_table_until_accepted[True]",
    ),
    Break(
        "aborted records are read",
        MEMBERSHIP,
        'isolation_level="read_committed"',
        'isolation_level="read_uncommitted"',
        f"{KAFKA}::test_aborted_transactions_leave_no_row",
    ),
    # Syncs left out, one at a time: the power goes.
    Break(
        "no sync of a file",
        PARQUET,
        "            os.fsync(self._file.fileno())\n",
        "",
        f"{POWER}[commit]",
    ),
    Break(
        "no sync of a hot file's folder",
        OPERATIONS,
        '        failpoint("move.before_sync")\n        sync_folder(target.parent)\n',
        '        failpoint("move.before_sync")\n',
        f"{POWER}[commit]",
    ),
    Break(
        "no sync of a public file's folder",
        OPERATIONS,
        '        failpoint("move.before_sync")\n        sync_folder(target.parent)\n',
        '        failpoint("move.before_sync")\n',
        f"{POWER}[seal]",
    ),
    Break(
        "no sync of a rebuilt file's folder",
        OPERATIONS,
        '        failpoint("move.before_sync")\n        sync_folder(target.parent)\n',
        '        failpoint("move.before_sync")\n',
        f"{POWER}[rebuild]",
    ),
    Break(
        "no sync above a new folder",
        OPERATIONS,
        '            failpoint("folder.before_sync")\n            sync_folder(new.parent)\n',
        '            failpoint("folder.before_sync")\n',
        f"{POWER}[first_commit]",
    ),
    Break(
        "no sync above a killed one's folder",
        OPERATIONS,
        "                sync_folder(new.parent)\n",
        "                pass\n",
        f"{POWER}[killed_first_commit]",
    ),
    Break(
        "no sync of a session's name",
        SESSION,
        "            sync_folder(paths.staging)  #",
        "            #",
        f"{POWER}[seal]",
    ),
    Break(
        "no sync before the intent",
        COMPACTOR,
        "        sync_folder(self.session.folder)  #",
        "        #",
        f"{POWER}[seal]",
    ),
    Break(
        "no sync before the intent of a merge",
        COMPACTOR,
        "        sync_folder(self.session.folder)  #",
        "        #",
        f"{POWER}[merge]",
    ),
    Break(
        "deleted before the intent",
        COMPACTOR,
        '        failpoint("seal.before_intent")\n',
        "        for file in old:\n            file.path.unlink()\n",
        f"{POWER}[seal]",
    ),
    Break(
        "no sync of a killed one's rename",
        RECOVERY,
        "        make_folder(final.parent)\n        sync_folder(final.parent)\n",
        "",
        f"{POWER}[killed_seal]",
    ),
    Break(
        "intended files are renamed",
        RECOVERY,
        "move_into_place(staged, final, intended=True)",
        "move_into_place(staged, final)",
        f"{POWER}[seal]",
    ),
    Break(
        "both names of a file stop the seal",
        RECOVERY,
        "if staged.exists() and not staged.samefile(final):",
        "if staged.exists():",
        COMPACTION,
    ),
    Break(
        "no sync of a date's staging folder",
        DAYS,
        "    sync_folder(staging)\n",
        "",
        f"{POWER}[days]",
    ),
    Break(
        "no sync after a date's exchange",
        RECOVERY,
        "for changed in (folder, staging, folder.parent, staging.parent):",
        "for changed in ():",
        f"{POWER}[days]",
    ),
    Break(
        "no sync of reused files' folders",
        REUSE,
        "                sync_folder(folder)\n",
        "                pass\n",
        f"{POWER}[rebuild]",
    ),
    Break(
        "a dropped rebuild's number is given again",
        GENERATIONS,
        "while self._core.paths.raw(ref, number).exists():",
        "while False:",
        f"{POWER}[killed_rebuild]",
    ),
    Break(
        "the ledger does not sync its commits",
        SQLITE,
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        f"{POWER}[commit]",
    ),
    Break(
        "the ledger does not sync at all",
        SQLITE,
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = OFF",
        f"{POWER}[seal]",
    ),
    Break(
        "switch without equal positions",
        SWITCH,
        "if known != wanted or positions != state.positions:",
        "if known != wanted:",
        f"{BOOKS}::test_a_switch_waits_for_what_was_committed_meanwhile",
    ),
    Break(
        "switch to what is too short",
        SWITCH,
        "if max(ends.get(partition, -1), lost.get(partition, -1)) != position:",
        "if False:",
        f"{BOOKS}::test_a_generation_that_is_too_short_is_not_switched_to",
    ),
    Break(
        "switch under a compaction",
        GENERATIONS,
        'for table in ("compactions", "date_rewrites"):',
        "for table in ():",
        f"{BOOKS}::test_a_switch_waits_for_a_compaction",
    ),
    Break(
        "losses forgotten by the switch",
        SWITCH,
        '("losses", "topic_id, partition, first, last, accepted_at"),',
        "",
        f"{BOOKS}::test_losses_and_dead_letters_come_along",
    ),
    Break(
        "segments of a rebuild that is not ours",
        GENERATIONS,
        'if found != ("building", session):',
        "if False:",
        f"{BOOKS}::test_only_one_builds_and_only_the_builder_adds",
    ),
    Break(
        "seal of an old generation",
        SEALS,
        "            must_be_current(db, topic, generation)\n            number = ",
        "            number = ",
        f"{BOOKS}::test_a_compaction_of_the_old_generation_is_refused",
    ),
    Break(
        "day of an old generation",
        REWRITES,
        "            must_be_current(db, topic, generation)\n"
        '            db.execute(\n                "INSERT INTO date_rewrites',
        '            db.execute(\n                "INSERT INTO date_rewrites',
        f"{BOOKS}::test_a_day_of_the_old_generation_is_refused",
    ),
    Break(
        "commit to an old generation",
        COMMITS,
        "if known != (state.generation, state.topic_id):",
        "if False:",
        f"{BOOKS}::test_a_writer_of_the_old_generation_is_fenced",
    ),
    Break(
        "nobody is held",
        COMMITS,
        "if held is not None and",
        "if False and",
        f"{BOOKS}::test_a_held_table_takes_no_commit_until_the_hold_ends",
    ),
    Break(
        "a hold without end",
        COMMITS,
        "now() < held[0] < now() + HOLD_SECONDS",
        "0 < held[0]",
        f"{BOOKS}::test_a_held_table_takes_no_commit_until_the_hold_ends",
    ),
    Break(
        "new rows of whatever generation is current",
        LEDGER_FILES,
        "generation = self._tables.generation_at(topic, up_to)\n",
        "generation = self._tables.generation_at(topic, 1 << 62)\n",
        f"{BOOKS}::test_nobody_sees_a_generation_before_the_switch_and_all_of_it_is_new_after",
    ),
    Break(
        "a switch brings nothing new",
        LEDGER_FILES,
        "if self._tables.generation_at(topic, after) != generation:",
        "if False:",
        f"{BOOKS}::test_a_switch_waits_for_what_was_committed_meanwhile",
    ),
    Break(
        "the log of a lost ledger stays",
        REPLACING,
        "    if not left:\n",
        "    if not paths.ledger.exists():\n",
        f"{LOST}::test_the_log_of_a_lost_ledger_is_not_applied_to_the_new_one",
    ),
    Break(
        "a ledger replaced under its users",
        REPLACING,
        "fcntl.LOCK_SH",
        "fcntl.LOCK_UN",
        f"{IN_USE}::test_a_ledger_that_somebody_has_open_is_not_replaced",
    ),
    Break(
        "a ledger opened while it is replaced",
        REPLACING,
        "fcntl.LOCK_EX",
        "fcntl.LOCK_SH",
        f"{IN_USE}::test_a_ledger_is_not_opened_while_it_is_replaced",
    ),
    Break(
        "a ledger without its log",
        REPLACING,
        'for end in ("", "-wal", "-shm")]',
        'for end in ("-wal", "-shm", "")]',
        f"{LOST}::test_a_ledger_that_is_replaced_is_never_there_without_its_log",
    ),
    Break(
        "no sync between a ledger and its log",
        REPLACING,
        '        sync_folder(paths.root)\n        failpoint("restore.after_part_quarantined")',
        '        failpoint("restore.after_part_quarantined")',
        f"{POWER}[restore]",
    ),
    Break(
        "a backup's ledger not synced",
        OPERATIONS,
        "    shutil.copyfile(source, target)\n    sync_file(target)\n",
        "    shutil.copyfile(source, target)\n",
        f"{POWER}[bring_back]",
    ),
    Break(
        "a backup not synced",
        BACKUP,
        "                sync_file(path)\n",
        "                pass\n",
        f"{POWER}[backup]",
    ),
    Break(
        "a backup's name not synced",
        BACKUP,
        '            sync_folder(folder.parent)\n            failpoint("backup.after_rename")\n',
        '            failpoint("backup.after_rename")\n',
        f"{POWER}[backup]",
    ),
    Break(
        "dropped while pinned",
        GENERATIONS,
        'if found[0] == "old" and any(',
        "if False and any(",
        f"{BOOKS}::test_an_old_generation_stays_while_somebody_reads",
    ),
    Break(
        "killed rebuilds stay",
        RECOVERY,
        "if not ledger.generations.drop_abandoned(topic, generation, session):",
        "if True:",
        f"{BOOKS}::test_what_a_killed_rebuild_left_is_dropped",
    ),
    Break(
        "somebody else's rebuild is dropped",
        GENERATIONS,
        " AND state = 'building' AND session = ?\",\n                (topic, generation, session),",
        '",\n                (topic, generation),',
        f"{BOOKS}::test_a_new_rebuild_is_not_taken_for_the_one_that_was_killed",
    ),
    Break(
        "filled twice",
        FILLING,
        "    ).fetchone():\n        raise CommitConflict(\n"
        '            f"Table {where[0]}, partition',
        "    ).fetchone() and False:\n        raise CommitConflict(\n"
        '            f"Table {where[0]}, partition',
        f"{BOOKS}::test_a_hole_is_filled_once_and_its_rows_are_new",
    ),
    Break(
        "filled without a cut",
        FILLING,
        "        _cut(db, key, gap)\n",
        "",
        f"{BOOKS}::test_a_hole_within_a_range_cuts_it",
    ),
    Break(
        "filled into an old generation",
        FILLING,
        "    must_be_current(db, *key)\n",
        "",
        f"{BOOKS}::test_a_fill_into_an_old_generation_is_refused",
    ),
    Break(
        "filled under a rebuild",
        FILLING,
        "WHERE topic = ? AND state = 'building'\", (state.topic,)",
        "WHERE topic = ? AND state = 'nobody'\", (state.topic,)",
        f"{BOOKS}::test_a_table_that_is_being_rebuilt_takes_no_fill",
    ),
    Break(
        "replaced file kept",
        LEDGER_FILES,
        '"UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",',
        '"UPDATE files SET created_at = ? WHERE file_id = ? AND obsolete_at IS NULL",',
        f"{BOOKS}::test_a_replaced_file_is_not_read_any_more",
    ),
    Break(
        "a compaction's input replaced",
        LEDGER_FILES,
        "if any(lost in inputs for inputs in open_inputs(db)):",
        "if False:",
        f"{BOOKS}::test_a_file_that_a_compaction_is_about_to_replace_is_left_to_it",
    ),
    Break(
        "a reuse forgets what has no row",
        REUSE,
        "                if kept:\n",
        "                if any(k.rows for k in kept):\n",
        f"{TAKEN_OVER}::test_offsets_without_a_row_are_reused_too",
    ),
    Break(
        "a reuse takes all of a file",
        REUSE,
        'if whole and file.tier == "sealed":',
        'if file.tier == "sealed":',
        f"{TAKEN_OVER}::test_a_file_that_straddles_gives_its_part_and_no_more",
    ),
    Break(
        "a reuse counts all rows of a range",
        REUSE,
        "        if offset_range.rows >= 0:\n",
        "        if True:\n",
        f"{TAKEN_OVER}::test_a_file_that_straddles_gives_its_part_and_no_more",
    ),
    Break(
        "rejects counted as work",
        MEMBERSHIP,
        "[t for t in self._topics if t != REJECTS_TOPIC]",
        "list(self._topics)",
        f"{KAFKA}::test_a_second_worker_takes_half_of_a_topic",
    ),
    Break(
        "a stretch sought in all of history",
        OFFSETS,
        "AND b.first <= :first), :first) AND :last",
        "AND b.first < 0), 0) AND :last",
        "tests/unit/test_ledger_cost.py::test_a_step_costs_the_same_after_years",
    ),
    Break(
        "a seal looks at all of history",
        OFFSETS,
        '"  ORDER BY b.first DESC LIMIT 1), -1)"',
        '"  ORDER BY b.last + 0 DESC LIMIT 1), -1)"',
        "tests/unit/test_ledger_cost.py::test_a_compaction_costs_the_same_after_years",
    ),
    Break(
        "a worker that Kafka gave up waits for ever",
        WRITER,
        "if error is not None and (error.fatal() or error.code() == KafkaError._FATAL):",
        "if error is not None and error.fatal():",
        f"{KAFKA}::test_a_worker_whose_name_another_takes_joins_anew",
    ),
    Break(
        "a day's lost file gets the rows of all days",
        LOST_FILES,
        "parts.append(decoded.rows.filter(pc.equal(days, day)))",
        "parts.append(decoded.rows)",
        f"{REPLAYS}::test_lost_days_of_one_compaction_are_all_written_again",
    ),
    Break(
        "a lost file gets what is left of its rows",
        LOST_FILES,
        "if count != file.rows:",
        "if False:",
        f"{REPLAYS}::test_a_lost_file_that_kafka_no_longer_holds_is_said_to_be_lost",
    ),
    Break(
        "damaged files are reused",
        REUSE,
        "if not is_whole(path, file.sha256):",
        "if False:",
        f"{TAKEN_OVER}::test_a_damaged_file_is_not_read_and_its_rows_get_no_new_checksum",
    ),
    Break(
        "damaged files are compacted",
        "consumers/compaction/damaged_files.py",
        "whole = [f for f in files if is_whole(f.path, f.sha256)]",
        "whole = list(files)",
        f"{TAKEN_OVER}::test_a_compaction_leaves_a_damaged_file_alone_and_names_it[False]",
    ),
    Break(
        "dead letters not taken over",
        REUSE,
        "dead_letters_from=state.generation",
        "dead_letters_from=None",
        f"{TAKEN_OVER}::test_dead_letters_come_along_with_their_ranges",
    ),
    Break(
        "an old ledger is taken",
        OLD_LEDGER,
        "if about.after > newest:",
        "if False:",
        f"{TAKEN_OVER}::test_a_ledger_that_is_older_than_a_file_is_refused",
    ),
    Break(
        "a ledger from before a compaction is taken",
        OLD_LEDGER,
        'if is_public and file.tier == "hot":',
        "if False:",
        f"{LOST}::test_a_backup_from_before_a_compaction_is_older_than_the_files[seal-seal.before_delete]",
    ),
    Break(
        "a ledger from before a merge is taken",
        OLD_LEDGER,
        "return file in ledger.files",
        "return False and file in ledger.files",
        f"{LOST}::test_a_backup_from_before_a_compaction_is_older_than_the_files[merge-]",
    ),
    Break(
        "files do not say when they were written",
        FORMATS,
        '            "after": str(self.after),\n',
        "",
        f"{TAKEN_OVER}::test_a_ledger_that_is_older_than_a_file_is_refused",
    ),
    Break(
        "a lost ledger made of half a seal",
        CHOICE,
        "any(n and have[s] < s.rows for s, n in f.counts.items())]",
        "False]",
        f"{TAKEN_OVER}::test_a_half_done_seal_is_not_taken",
    ),
    Break(
        "a lost ledger made without hot files",
        CHOICE,
        "            kept.add(file)\n",
        "            pass\n",
        f"{TAKEN_OVER}::test_public_files_that_have_all_rows_are_taken_and_hot_ones_are_not",
    ),
    Break(
        "a lost ledger that knows rows twice",
        CHOICE,
        "if any(n and have[s] + n <= s.rows for",
        "if any(n for",
        f"{TAKEN_OVER}::test_a_merged_file_is_taken_before_what_it_was_made_of",
    ),
    Break(
        "a killed rebuild is taken for the table",
        CHOICE,
        "if any(f.live for f in files) or not _lacks_rows(files, generations[current]):",
        "if True:",
        f"{TAKEN_OVER}::test_a_rebuild_that_was_killed_half_way_is_not_taken_for_the_table",
    ),
    Break(
        "a rebuild's files say nothing of it",
        FOUND_FILES,
        "about.generation == generation and not about.building,",
        "True,",
        f"{STORIES}::test_the_ledger_lost_with_a_rebuild_half_way[replay.before_segment]",
    ),
    Break(
        "the switch does not look again",
        CATCH_UP,
        "            self._builder.catch_up(state)\n",
        "",
        f"{STORIES}::test_a_rebuild_with_commits_and_a_compaction_at_any_step",
    ),
    Break(
        "a share too few",
        SPANS,
        "while at < span.end:",
        "while at < span.end - 1:",
        f"{ARITHMETIC}::test_shares_are_everything_once_and_about_equal",
    ),
    Break(
        "a gap too few",
        SPANS,
        "    if at < span.end:\n",
        "    if at + 1 < span.end:\n",
        f"{ARITHMETIC}::test_uncovered_offsets_are_what_nothing_covers",
    ),
    Break(
        "a run over what is there",
        SPANS,
        "if found and at == before:",
        "if found:",
        f"{ARITHMETIC}::test_runs_hold_all_that_is_missing_and_nothing_that_is_there",
    ),
    Break(
        "JSON encoded twice",
        "consumers/ingest/decoding/debezium.py",
        'json_shape = "VARCHAR"',
        'json_shape = "JSON"',
        f"{TYPES}::test_a_json_column_holds_its_json_once",
    ),
    Break(
        "zero dates as NULL in silence",
        "consumers/ingest/decoding/careful.py",
        "zeros = [c for c, is_told in zip(dates, told, strict=True) if is_told]",
        "zeros = []",
        f"{TYPES}::test_a_date_of_zeros_has_a_column_of_its_own",
    ),
    Break(
        "a synonym of a type unknown",
        "lake/storage/mysql_types.py",
        '"INT8": ("BIGINT", "UBIGINT"),',
        "",
        f"{TYPES}::test_every_name_of_a_type_is_known",
    ),
    Break(
        "long names cut without their hash",
        "lake/identifiers.py",
        'return f"{kept}_{digest}"',
        "return kept",
        "tests/unit/test_config.py::test_a_relation_that_postgresql_would_cut_is_shortened",
    ),
    Break(
        "a pattern of Debezium's that ignores case",
        "producers/mysql/tables.py",
        'return f"(?-i:{text})"',
        'return f"(?i:{text})"',
        "tests/unit/test_source_checks.py"
        "::test_a_database_whose_name_is_a_pattern_is_taken_literally",
    ),
    Break(
        "two server ids of one server",
        "producers/mysql/neighbours.py",
        "and server_id(config, other) == mine",
        "and False",
        "tests/unit/test_source_checks.py::test_two_sources_of_one_server_have_ids_of_their_own",
    ),
    Break(
        "a binlog without whole rows accepted",
        "producers/mysql/server_checks.py",
        "if found.get(name, value).upper() != value:",
        "if False:",
        "tests/unit/test_mysql_server_checks.py::test_a_setting_that_loses_changes_is_named",
    ),
    Break(
        "an old version of a row is taken for its current one",
        DIFFERENCES,
        "since = [v for v in self.versions if v.place >= place]",
        "since = self.versions",
        f"{RECONCILED}::test_a_row_equals_a_version_that_the_lake_had_since_the_look_before",
    ),
    Break(
        "a row too many of a table without a key is not counted",
        "ducklake/reconciliation/relations.py",
        "found.unread = max(0, surplus - updates)",
        "found.unread = 0",
        f"{RECONCILED}::test_multisets_of_rows_without_a_key_are_compared",
    ),
    Break(
        "a table that differs is healthy",
        "ducklake/supervision/condition.py",
        "    problems += _unequal(reconciled)\n",
        "",
        f"{RECONCILED}::test_what_differs_or_was_not_compared_is_a_problem",
    ),
    Break(
        "a damaged member gives half of its rows",
        READING,
        'broken = _tried(form, content, size).broken if form.packing == ".zip" else {}',
        "broken = {}",
        f"{ODD_FILES}::test_a_member_that_is_damaged_late_gives_none_of_its_rows",
    ),
    Break(
        "what a reader raises ends the source",
        READING,
        "    except BaseException as error:  # a panic in a library is no Exception\n",
        "    except ValueError as error:\n",
        f"{ODD_FILES}::test_whatever_a_reader_raises_costs_its_file_alone",
    ),
    Break(
        "the page of an error is an empty CSV",
        "producers/formats/lines.py",
        '        if found:\n            raise UnreadableFile(\n                f"it is {found[0]}',
        '        if False:\n            raise UnreadableFile(\n                f"it is {found[0]}',
        f"{ODD_FILES}::test_an_odd_file_is_one_reject_with_its_first_bytes",
    ),
    Break(
        "rows are taken for lines",
        "producers/formats/lines.py",
        "self._read -= len(rest)",
        "pass",
        "tests/unit/test_lines_of_files.py",
    ),
    Break(
        "a number of JSON is rounded",
        "producers/formats/json_values.py",
        "return number if Decimal(repr(number)) == Decimal(text) else text",
        "return number",
        f"{ODD_FILES}::test_no_json_number_is_rounded",
    ),
    Break(
        "a path that stands twice loses records",
        "producers/formats/json.py",
        "            if _key(name) == key:\n                raise",
        "            if False:\n                raise",
        f"{ODD_FILES}::test_an_odd_file_is_one_reject_with_its_first_bytes",
    ),
    Break(
        "a changed option reads no file again",
        "producers/files/version.py",
        'return self.options in ("", options)',
        "return True",
        f"{FILES}::test_a_file_is_read_again_when_an_option_of_its_reader_changes",
    ),
    Break(
        "a header alone replaces nothing",
        "producers/files/batches.py",
        "            records.append(self._end_of_file(about))\n",
        "            pass\n",
        f"{FILES}::test_a_snapshot_without_rows_says_so_in_one_record",
    ),
    Break(
        "a file is put away before it is committed",
        "producers/files/connector.py",
        "                yield from reader.batches(file, shown(path), state, version, early)\n",
        "                for batch in reader.batches(file, shown(path), state, version, early):\n"
        '                    if reader.version is None and options.after_reading != "leave":\n'
        "                        folder.remove(path)\n"
        "                    yield batch\n",
        f"{FILES}::test_a_file_is_put_away_only_once_its_rows_are_committed",
    ),
    Break(
        "no content completes history",
        "producers/rest/reader.py",
        "(walk.status == 204 and unit.request.incremental is None)",
        "False",
        f"{API_ANSWERS}::test_no_content_never_counts_as_complete",
    ),
    Break(
        "an error beside no records completes history",
        "producers/rest/answer_checks.py",
        "        if sign:\n",
        "        if False:\n",
        f"{API_ANSWERS}::test_records_that_are_not_where_they_should_be_are_none",
    ),
    Break(
        "a later page is asked for as the first one was known",
        "producers/rest/pages.py",
        "if name not in CONDITIONS}",
        "}",
        f"{API_ANSWERS}::test_a_page_that_is_not_sent_as_it_is_known_cuts_nothing_off",
    ),
    Break(
        "one query for all columns of a wide table",
        "consumers/ingest/decoding/row_sql.py",
        "COLUMNS_AT_ONCE = 100\n",
        "COLUMNS_AT_ONCE = 10_000\n",
        f"{DECODED}::test_what_a_record_with_many_keys_costs_grows_with_their_number_alone",
    ),
    Break(
        "a redirect goes anywhere",
        "producers/http/gate.py",
        "        if is_private(address):",
        "        if False:",
        f"{API_ANSWERS}::test_redirects_do_not_lead_into_the_private_network",
    ),
    Break(
        "an answer that drips has no end",
        "producers/http/gate.py",
        "                    copy.shutdown(socket.SHUT_RDWR)",
        "                    pass",
        f"{API_ANSWERS}::test_a_dripping_answer_ends_at_the_deadline",
    ),
    Break(
        "a message is a record",
        "producers/rest/rows.py",
        "        if expected and not any(name in values for name in expected):",
        "        if False:",
        f"{API_ANSWERS}::test_an_answer_with_status_200_that_is_none_never_counts_as_complete",
    ),
    Break(
        "rows of the cursor's own value come again",
        "producers/rest/incremental.py",
        "        elif seen[digest]:",
        "        elif False:",
        f"{API_TABLES}::test_what_is_new_arrives_once_wherever_it_is_killed",
    ),
    Break(
        "a killed snapshot of an API begins anew",
        "producers/rest/snapshot.py",
        "        if seen <= done:",
        "        if False:",
        f"{API_TABLES}::test_a_snapshot_arrives_once_wherever_it_is_killed",
    ),
    Break(
        "a killed run of dlt begins anew",
        "producers/dlt_sources/connector.py",
        "        if seen <= done:",
        "        if False:",
        "tests/unit/test_dlt_source.py"
        "::test_killed_between_any_two_batches_each_row_arrives_once",
    ),
    Break(
        "an alert is told again by each look",
        "ducklake/alerts/notifier.py",
        "begun = [c for c in found.values() if c.key not in active and",
        "begun = [c for c in found.values() if",
        f"{ALERTS}::test_it_is_told_once_as_it_begins_and_once_as_it_ends",
    ),
    Break(
        "what a killed monitor may have sent is sent again",
        "ducklake/alerts/book.py",
        "        self._forget_what_may_have_been_sent()\n",
        "",
        f"{ALERTS}::test_a_monitor_that_is_killed_while_it_sends_never_tells_twice",
    ),
    Break(
        "the values of a killed role are served for ever",
        "ducklake/metrics/exposition.py",
        'if lock.holder(path.with_suffix(".lock")) is None:',
        "if False:",
        f"{METRICS}::test_a_killed_role_takes_its_values_with_it",
    ),
    Break(
        "metrics say of failing tests what status does not",
        "ducklake/metrics/of_lake.py",
        "yield from (((relation,), 1) for relation in found.seen.held_back)",
        "yield from ()",
        f"{METRICS}::test_metrics_say_what_status_says_and_nothing_of_a_row",
    ),
    Break(
        "a Kafka that does not answer looks healthy",
        "ducklake/monitoring/observation.py",
        "if ends is not None or not any(role.pid for role in condition.roles):",
        "if True:",
        f"{ALERTS}::test_a_kafka_that_does_not_answer_is_a_problem_while_something_runs",
    ),
    Break(
        "another site changes something in the name of a visitor",
        "ducklake/dashboard/access.py",
        "return self.is_known(request) and hmac.compare_digest(sent.encode(), self.csrf.encode())",
        "return self.is_known(request)",
        f"{PAGE}::test_nobody_changes_something_without_the_token_or_from_another_site",
    ),
    Break(
        "a request of another origin is taken for one of the page",
        "ducklake/dashboard/access.py",
        "return origin is None or urlsplit(origin).netloc == host",
        "return True",
        f"{PAGE}::test_nobody_changes_something_without_the_token_or_from_another_site",
    ),
    Break(
        "the page answers whoever asks",
        "ducklake/dashboard/app.py",
        "if request.url.path.startswith(_OPEN) or access.is_known(request):",
        "if True:",
        f"{PAGE}::test_nobody_reads_anything_without_the_token",
    ),
    Break(
        "values of the data are markup of the page",
        "ducklake/dashboard/drawing.py",
        "autoescape=True,",
        "autoescape=False,",
        f"{PAGE}::test_every_page_is_drawn_accessible_and_shows_hostile_values_as_text",
    ),
    Break(
        "a formula of the data runs in a spreadsheet",
        "ducklake/dashboard/sql_worker.py",
        """return f"'{value}" if value and value.startswith(_FORMULA) else value""",
        "return value",
        f"{PAGE}::test_the_sql_box_shows_values_as_text_and_guards_spreadsheets",
    ),
    Break(
        "a dry run of the page writes",
        "ducklake/dashboard/commands.py",
        '["--dry-run"] if dry_run else []',
        "[]",
        "tests/crash/test_page_clicks.py"
        "::test_a_bad_record_is_seen_mended_tried_and_redriven_by_clicks",
    ),
    Break(
        "a table that stalls looks idle in the page's picture",
        "ducklake/monitoring/pipeline.py",
        'return max(states, key=_WORST.index, default="unknown")',
        'return min(states, key=_WORST.index, default="unknown")',
        "tests/unit/test_pipeline.py" "::test_idle_is_told_from_stalled_at_the_hop_where_it_stands",
    ),
)


def run(folder: Path, test: str) -> int | None:
    """Run one test in a copy; returns pytest's exit code, None where it did not end in time."""
    basetemp = f"--basetemp={folder / 'tmp'}"
    words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", basetemp, test]
    # All states of a power cut: no break may depend on a sample.
    own = {"PYTHONPATH": str(folder), "DUCKLAKE_NO_SHRINKING": "1", "DUCKLAKE_POWER_STATES": "0"}
    own["MODEL_CHANGES"] = "400"
    with (folder / "last.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **own},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            return process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # the embedded services end with pytest
            process.wait()
            return None


def copy(folder: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def sabotage(break_: Break) -> tuple[bool, str]:
    """Whether the named test noticed, and what happened."""
    with tempfile.TemporaryDirectory(prefix="sabotage-") as name:
        folder = Path(name)
        copy(folder)
        path = folder / break_.file
        source = path.read_text()
        if source.count(break_.old) != 1:
            return False, f"{source.count(break_.old)} places to break: mend this list"
        broken = source.replace(break_.old, break_.new)
        if break_.file == COMPACTOR:  # what the breaks there use
            imported = "from lake.storage.operations import "
            broken = broken.replace(imported, f"{imported}make_folder, move_into_place, ")
        path.write_text(broken)
        code = run(folder, break_.test)
        if code == 1 and "FAILED" in (folder / "last.log").read_text():
            return True, "red"
        if code is None:
            return False, f"not within {SECONDS} s"
        return False, "NOT NOTICED" if code == 0 else f"pytest ended with {code}"


def green(test: str) -> str | None:
    """The end of a test's output where it is red without a break."""
    with tempfile.TemporaryDirectory(prefix="sabotage-") as name:
        folder = Path(name)
        copy(folder)
        if run(folder, test) == 0:
            return None
        return (folder / "last.log").read_text()[-3000:]


def main(names: list[str]) -> int:
    """Try all breaks, or the named ones, DUCKLAKE_JOBS (2) at a time.

    Returns:
        1 if a break was not noticed, or a test is red without one.
    """
    chosen = [b for b in BREAKS if not names or b.name in names]
    tests = list(dict.fromkeys(b.test for b in chosen))
    failures = 0
    with ThreadPoolExecutor(int(os.environ.get("DUCKLAKE_JOBS", "2"))) as jobs:
        for number, (test, red) in enumerate(zip(tests, jobs.map(green, tests), strict=True), 1):
            print(f"{number} of {len(tests)} without a break: {test}", file=sys.stderr, flush=True)
            if red is not None:
                failures += 1
                print(f"red without a break: {test}\n{red}", flush=True)
        for break_, (noticed, what) in zip(chosen, jobs.map(sabotage, chosen), strict=True):
            failures += not noticed
            print(f"{break_.name:36} {what:12} {break_.test}", flush=True)
    print(f"{len(chosen)} breaks, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
