import httpx

from query_api.users import detail_reads as user_reads
from tests.integration.query_api.read_side import ReadSide, erased, moved, person, token


async def test_a_user_is_sent_as_projected_with_what_a_client_needs_to_come_back(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person(display_name="Ann")
    await read_side.register(ann)

    answer = await api.get(f"/users/{ann.id}")

    assert answer.status_code == 200
    assert answer.content == ann.model_dump_json().encode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["etag"] == '"1.3"'
    assert answer.headers["consistency-token"] == token(ann.id, 1)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "Consistency-Token" in answer.headers["vary"]


async def test_an_id_may_be_written_in_capitals(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)

    assert (await api.get(f"/users/{str(ann.id).upper()}")).json()["id"] == str(ann.id)


async def test_who_has_the_current_version_gets_304_with_the_same_headers(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    await read_side.register(ann)

    for known in ('"1.3"', 'W/"1.3"', '"0.1", "1.3"', "*"):
        answer = await api.get(f"/users/{ann.id}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b""), known
        assert {"etag", "cache-control", "vary", "as-of", "consistency-token"} <= set(answer.headers)
    await read_side.apply(moved(ann, "new@example.com"))
    assert (await api.get(f"/users/{ann.id}", headers={"If-None-Match": '"1.3"'})).headers["etag"] == '"2.3"'


async def test_who_never_was_and_who_was_erased_are_404(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(erased(ann))

    for identifier in (ann.id, person().id):
        answer = await api.get(f"/users/{identifier}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert answer.headers["cache-control"] == "no-store"


async def test_who_was_erased_and_registered_again_is_shown_to_whoever_waits_for_that(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person(version=6)
    await read_side.register(ann)
    await read_side.connection.execute("INSERT INTO users_g1_erased VALUES ($1, 5)", ann.id)

    answer = await api.get(f"/users/{ann.id}", headers={"Consistency-Token": token(ann.id, 6)})

    assert (answer.status_code, answer.headers["consistency-token"]) == (200, token(ann.id, 6))


async def test_an_id_that_is_no_uuid_is_422_and_so_is_any_parameter(api: httpx.AsyncClient) -> None:
    for path, parameter in (("/users/ann", "id"), (f"/users/{person().id}?fields=id", "fields")):
        answer = await api.get(path)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == parameter


async def test_many_readers_at_once_each_get_their_own_in_few_queries(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    import asyncio  # noqa: PLC0415 - gathered here alone

    people = [person(number) for number in range(user_reads.BATCH_IDS + 50)]
    await read_side.register(*people)
    await read_side.connection.execute("SELECT pg_stat_reset_single_table_counters('users_g1_pkey'::regclass)")

    answers = await asyncio.gather(*(api.get(f"/users/{user.id}") for user in [*people, person()]))

    assert [answer.json().get("username") for answer in answers] == [*(user.username for user in people), None]
