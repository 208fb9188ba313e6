"""The guide's `POST /users/`: a session that commits after the answer, the ORM, a look for the address, an INSERT.

GUIDE_DATABASE_URL names the database. The password's hash is a fixed string, in both designs.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, EmailStr, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.guide_app.app import Base, User, UserResponse
from chassis.identifiers import new_id

FIXED_HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"


class UserCreate(BaseModel):
    """A registration as the guide takes it."""

    email: EmailStr
    username: str = Field(min_length=3, max_length=50)
    password: str = Field(min_length=8)


def create_app() -> FastAPI:
    """The app, its engine and tables made by its lifespan."""
    engine = create_async_engine(os.environ["GUIDE_DATABASE_URL"], pool_size=20, max_overflow=10)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

    app = FastAPI(lifespan=lifespan)

    @app.post("/users/", status_code=201)
    async def create_user(user: UserCreate, db: Annotated[AsyncSession, Depends(get_db)]) -> UserResponse:
        found = await db.execute(select(User).where(User.email == user.email))
        if found.scalar_one_or_none():
            raise HTTPException(status_code=400, detail="Email already registered")
        now = datetime.now(UTC).replace(tzinfo=None)
        created = User(
            id=new_id(),
            email=user.email,
            username=user.username,
            hashed_password=FIXED_HASH,
            is_active=True,
            created_at=now,
            updated_at=now,
        )
        db.add(created)
        await db.flush()
        await db.refresh(created)
        return created  # type: ignore[return-value] # FastAPI makes the model, as in the guide

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
