"""Each provider of ours is tested against each way in which what is behind it fails."""

import re
from pathlib import Path

import pytest

from providers.load import BUILTINS

HERE = Path(__file__).parent
WAYS = ("down at start", "dies and returns", "slow", "full", "wrong credentials")
FAILURES = {
    "blobstore-fs": (
        "test_blobstore_fs.py::test_a_root_that_cannot_be_used_refuses_the_link",
        "test_blobstore_fs.py::test_a_root_that_goes_away_is_an_answer_until_it_is_back",
        "",  # a file system that is slow keeps the threads that wait for it busy, and nobody else
        "test_blobstore_fs.py::test_a_full_disk_is_an_answer_and_leaves_the_old_object",
        "test_blobstore_fs.py::test_a_root_without_permission_refuses_the_link",
    ),
    "blobstore-nats": (
        "test_blobstore_nats.py::test_a_server_that_is_not_there_refuses_the_link",
        "test_blobstore_nats.py::test_a_server_that_is_slow_or_dies_is_an_answer_until_it_is_back",
        "test_blobstore_nats.py::test_a_server_that_is_slow_or_dies_is_an_answer_until_it_is_back",
        "test_blobstore_nats.py::test_a_full_container_is_an_answer_and_leaves_the_old_object",
        "test_blobstore_nats.py::test_a_wrong_login_refuses_the_link_without_saying_it",
    ),
    "cron": (
        "test_cron.py::test_a_server_that_is_down_or_refuses_the_login_refuses_the_link",
        "test_cron.py::test_without_a_bucket_a_tick_is_late_and_not_lost",
        "test_cron.py::test_without_a_bucket_a_tick_is_late_and_not_lost",
        "test_cron.py::test_without_a_bucket_a_tick_is_late_and_not_lost",
        "test_cron.py::test_a_server_that_is_down_or_refuses_the_login_refuses_the_link",
    ),
    "http-client": (
        "test_http_client.py::test_nobody_listening_is_connection_refused",
        "test_http_client.py::test_a_server_that_stops_in_the_middle_is_a_read_timeout",
        "test_http_client.py::test_a_server_that_does_not_answer_is_a_response_timeout",
        "test_http_client.py::test_a_large_upload_waits_for_a_slow_server",
        "test_http_client.py::test_a_certificate_that_nobody_vouches_for_is_refused",
    ),
    "http-server": (  # what is behind it is the actor, and its address
        "test_http_server.py::test_a_port_in_use_is_named_and_free_again_later",
        "test_http_server.py::test_an_actor_that_is_nowhere_is_503_with_a_word_when_to_come_back",
        "test_http_server.py::test_an_actor_that_takes_too_long_is_cut_off_with_504",
        "test_http_server.py::test_every_failure_has_a_status_an_id_and_one_line_in_the_log",
        "test_http_server.py::test_a_renewed_certificate_is_shown_to_new_connections_and_half_a_renewal_to_nobody",
    ),
    "keyvalue-memory": ("",) * 5,  # there is nothing behind it
    "keyvalue-nats": (
        "test_keyvalue.py::test_a_broker_that_is_not_there_refuses_the_link",
        "test_keyvalue.py::test_a_broker_that_is_slow_or_away_is_an_answer_in_time",
        "test_keyvalue.py::test_a_broker_that_is_slow_or_away_is_an_answer_in_time",
        "test_keyvalue.py::test_a_full_bucket_is_an_answer",
        "test_keyvalue.py::test_a_wrong_login_refuses_the_link_without_saying_it",
    ),
    "keyvalue-redis": (
        "test_keyvalue_redis.py::test_a_server_that_is_down_refuses_the_link_and_takes_it_once_it_is_up",
        "test_keyvalue_redis.py::test_a_server_that_dies_is_an_answer_until_it_is_back",
        "test_keyvalue_redis.py::test_a_slow_server_is_an_answer_in_time_and_counting_is_not_repeated",
        "test_keyvalue_redis.py::test_a_full_server_is_an_answer",
        "test_keyvalue_redis.py::test_a_wrong_password_refuses_the_link_without_saying_it",
    ),
    "messaging-nats": (
        "test_messaging.py::test_a_broker_that_is_not_there_refuses_the_link",
        "test_messaging.py::test_subscriptions_go_on_when_the_broker_was_away_or_silent",
        "test_messaging.py::test_subscriptions_go_on_when_the_broker_was_away_or_silent",
        "test_messaging_consumers.py::test_a_dead_letter_that_finds_no_room_waits_until_there_is_some",
        "test_messaging.py::test_a_wrong_login_refuses_the_link_without_saying_it",
    ),
    "sqldb-postgres": (
        "test_postgres.py::test_a_server_that_is_down_refuses_the_link_and_one_that_dies_is_an_answer_until_it_is_back",
        "test_postgres.py::test_a_server_that_is_down_refuses_the_link_and_one_that_dies_is_an_answer_until_it_is_back",
        "test_postgres.py::test_a_statement_that_takes_too_long_is_stopped_on_the_server",
        "test_postgres.py::test_a_server_that_is_full_is_an_answer",
        "test_postgres.py::test_a_wrong_login_refuses_the_link_without_saying_it",
    ),
    "sqldb-sqlite": (
        "test_sqlite.py::test_a_file_that_cannot_be_used_refuses_the_link",
        "test_sqlite.py::test_a_file_that_goes_away_is_an_answer_until_it_is_back",
        "test_sqlite.py::test_a_database_that_somebody_else_locks_is_an_answer_in_time",
        "test_sqlite.py::test_a_full_database_is_an_answer_and_can_be_emptied",
        "test_sqlite.py::test_a_read_only_link_writes_nothing",
    ),
    "secrets": (
        "test_secrets.py::test_a_host_has_what_it_is_started_with",
        "test_secrets.py::test_a_back_end_that_is_silent_or_away_is_a_failure_in_time_until_it_is_back",
        "test_secrets.py::test_a_back_end_that_is_silent_or_away_is_a_failure_in_time_until_it_is_back",
        "",  # secrets are only read
        "test_secrets.py::test_what_the_bucket_holds_is_sealed_and_only_the_key_opens_it",
    ),
}


def test_every_provider_is_in_the_table():
    assert FAILURES.keys() == {*BUILTINS, "secrets"}
    assert all(len(tests) == len(WAYS) for tests in FAILURES.values())


@pytest.mark.parametrize("name", sorted({name for tests in FAILURES.values() for name in tests if name}))
def test_what_the_table_names_is_there(name: str):
    file, _, test = name.partition("::")
    assert re.search(rf"^(async )?def {test}\(", (HERE / file).read_text(), re.MULTILINE)
