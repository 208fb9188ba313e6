"""A hello-world FastAPI app: what the framework costs before an application does anything."""

from fastapi import FastAPI


def create_app() -> FastAPI:
    """Create an app with one route that answers a constant."""
    app = FastAPI()

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    return app
