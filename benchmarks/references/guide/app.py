"""Users over HTTP as the guide builds it: `get_db` yields a session that commits, the ORM loads, Pydantic shows.

Run by uvicorn with its factory; GUIDE_DATABASE_URL names the database, and the lifespan makes the table where it is
missing. A registration looks for the address, inserts, reads the row back; its password hash is a fixed string, as in
the design it is compared with.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.population import FIXED_HASH
from chassis.identifiers import new_id


class Base(DeclarativeBase):
    """The guide's metadata."""


class User(Base):
    """The row of a user."""

    __tablename__ = "guide_users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True, index=True)
    username: Mapped[str] = mapped_column(unique=True, index=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class UserCreate(BaseModel):
    """A registration as the guide takes it."""

    email: EmailStr
    username: str = Field(min_length=3, max_length=50)
    password: str = Field(min_length=8)


class UserResponse(BaseModel):
    """A user in the guide's answers."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: EmailStr
    username: str
    is_active: bool
    created_at: datetime
    updated_at: datetime


def create_app() -> FastAPI:
    """Create the app, whose lifespan opens the engine."""
    engine = create_async_engine(os.environ["GUIDE_DATABASE_URL"], pool_size=20, max_overflow=10)
    app = FastAPI(lifespan=_lifespan(engine))
    _add_routes(app, async_sessionmaker(engine, expire_on_commit=False))
    return app


def _lifespan(engine: AsyncEngine) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    return lifespan


def _add_routes(app: FastAPI, sessions: async_sessionmaker[AsyncSession]) -> None:
    async def get_db() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

    @app.get("/users/")
    async def list_users(
        db: Annotated[AsyncSession, Depends(get_db)], skip: int = 0, limit: int = 100
    ) -> list[UserResponse]:
        found = await db.execute(select(User).offset(skip).limit(limit))
        return list(found.scalars().all())  # type: ignore[arg-type] # FastAPI makes the models, as in the guide

    @app.get("/users/{user_id}")
    async def get_user(user_id: UUID, db: Annotated[AsyncSession, Depends(get_db)]) -> UserResponse:
        found = await db.execute(select(User).where(User.id == user_id))
        user = found.scalar_one_or_none()
        if user is None:
            raise HTTPException(status_code=404, detail="User not found")
        return user  # type: ignore[return-value] # as above

    @app.post("/users/", status_code=201)
    async def create_user(user: UserCreate, db: Annotated[AsyncSession, Depends(get_db)]) -> UserResponse:
        found = await db.execute(select(User).where(User.email == user.email))
        if found.scalar_one_or_none():
            raise HTTPException(status_code=400, detail="Email already registered")
        now = datetime.now(UTC).replace(tzinfo=None)
        created = User(
            id=new_id(), email=user.email, username=user.username, hashed_password=FIXED_HASH, is_active=True,
            created_at=now, updated_at=now,
        )  # fmt: skip
        db.add(created)
        await db.flush()
        await db.refresh(created)
        return created  # type: ignore[return-value] # as above

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}
