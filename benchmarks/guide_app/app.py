"""Users over HTTP as the guide builds it: `get_db` yields a session that commits, the ORM loads, Pydantic shows.

Run by uvicorn with its factory; GUIDE_DATABASE_URL names the database. `/hello` is the least a FastAPI route can do.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, EmailStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The registry."""


class User(Base):
    """A user's row."""

    __tablename__ = "guide_users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True, index=True)
    username: Mapped[str] = mapped_column(unique=True, index=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class UserResponse(BaseModel):
    """A user as the guide answers it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: EmailStr
    username: str
    is_active: bool
    created_at: datetime
    updated_at: datetime


def create_app() -> FastAPI:
    """The app, its engine opened by its lifespan."""
    engine = create_async_engine(os.environ["GUIDE_DATABASE_URL"], pool_size=20, max_overflow=10, pool_pre_ping=False)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
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

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    return app
