"""A base backup and the archived log bring a server back as it was at a time, by PostgreSQL's own tools."""

import shutil

from tests.infrastructure import throwaway_folder
from tests.restore.backup import RestoredServer, Server, Store

PASSWORD = "of both servers"


async def test_a_server_comes_back_as_it_was_at_the_time() -> None:
    folder = throwaway_folder()
    store = Store(folder / "store")
    settings = {"fsync": "off"}
    try:
        server = Server(folder / "server", PASSWORD, settings=settings | store.archiving)
        async with server:
            await store.prepare(server)
            await server.execute("CREATE TABLE kept (number int)")
            backup = await store.back_up(server)
            await server.execute("INSERT INTO kept VALUES (1)")
            moment = await store.moment(server)
            await server.execute("INSERT INTO kept VALUES (2)")
            await store.archive(server)
            await server.kill()

        async with RestoredServer(server, folder / "restored", store, backup, moment, settings) as restored:
            assert await restored.execute("SELECT array_agg(number) FROM kept") == [1]
            await restored.execute("INSERT INTO kept VALUES (3)")
            await store.archive(restored)
    finally:
        shutil.rmtree(folder)
