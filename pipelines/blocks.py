"""What the blocks of params.yaml are built of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Ratio = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0.001)]  # a length in seconds, of one millisecond or more


class Block(BaseModel):
    """A mapping of params.yaml with exactly the declared keys."""

    # No infinity or NaN: settings are digested as JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
