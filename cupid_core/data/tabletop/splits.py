"""The object families, their sampling weights, and which of them are held out of training.

Training and evaluation both take their split from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cupid_core.data.tabletop.draws import FAMILY_STREAM, OBJECT_STREAM, Draws
from cupid_core.data.tabletop.families import (
    boxes,
    composed,
    containers,
    cookware,
    cutlery,
    fruit,
    grippers,
    held_out,
    household,
    packs,
    tableware,
    tools,
    toys,
)
from cupid_core.data.tabletop.shape import Shape
from cupid_core.errors import InputError

Family = Callable[[Draws], Shape]

# Trained families and their relative weights.
TRAINED: dict[str, tuple[Family, float]] = {
    "cracker_box": (boxes.cracker_box, 2.5),
    "sugar_box": (boxes.sugar_box, 2.5),
    "plain_box": (boxes.plain_box, 1.0),
    "book": (boxes.book, 1.0),
    "phone": (boxes.phone, 1.0),
    "brick": (boxes.brick, 1.5),
    "toy_brick": (boxes.toy_brick, 0.7),
    "soap": (boxes.soap, 0.6),
    "sponge": (boxes.sponge, 0.6),
    "can": (containers.can, 1.5),
    "bottle": (containers.bottle, 1.5),
    "squeeze_bottle": (containers.squeeze_bottle, 2.0),
    "jar": (containers.jar, 1.0),
    "tube": (containers.tube, 0.7),
    "mug": (tableware.mug, 1.5),
    "cup": (tableware.cup, 1.2),
    "bowl": (tableware.bowl, 1.7),
    "plate": (tableware.plate, 0.8),
    "apple": (fruit.apple, 1.0),
    "pear": (fruit.pear, 0.7),
    "lemon": (fruit.lemon, 0.7),
    "banana": (fruit.banana, 1.0),
    "hammer": (tools.hammer, 1.0),
    "screwdriver": (tools.screwdriver, 0.7),
    "marker": (tools.marker, 1.0),
    "drill": (tools.drill, 1.0),
    "clamp": (grippers.clamp, 1.0),
    "scissors": (grippers.scissors, 1.0),
    "brush": (tools.brush, 0.8),
    "bracket": (grippers.bracket, 0.6),
    "spool": (household.spool, 0.6),
    "bulb": (household.bulb, 0.5),
    "spoon": (cutlery.spoon, 0.8),
    "fork": (cutlery.fork, 0.6),
    "knife": (cutlery.knife, 0.7),
    "pan": (cookware.pan, 0.9),
    "pot": (cookware.pot, 0.7),
    "teapot": (cookware.teapot, 0.8),
    "pitcher": (cookware.pitcher, 1.0),
    "goblet": (tableware.goblet, 0.7),
    "vase": (tableware.vase, 0.9),
    "milk_carton": (packs.milk_carton, 1.0),
    "pouch": (packs.pouch, 0.9),
    "spray_bottle": (packs.spray_bottle, 0.9),
    "toy_car": (toys.toy_car, 1.0),
    "toy_duck": (toys.toy_duck, 0.8),
    "house": (toys.house, 0.7),
    "toy_plane": (toys.toy_plane, 0.7),
    "shoe": (household.shoe, 0.9),
    "dumbbell": (household.dumbbell, 0.6),
    "pyramid": (toys.pyramid, 0.7),
    "stool": (household.stool, 0.6),
    "ball": (toys.ball, 0.4),
    "mouse": (household.mouse, 0.7),
    "bucket": (cookware.bucket, 0.6),
    "composition": (composed.composition, 6.0),
    "stack": (composed.stack, 0.7),
}
# Families that no training uses; evaluation of generalization samples from these alone.
HELD_OUT: dict[str, tuple[Family, float]] = {
    "lamp": (held_out.lamp, 1.0),
    "chair": (held_out.chair, 1.0),
    "wrench": (held_out.wrench, 1.0),
    "headphones": (held_out.headphones, 1.0),
    "watering_can": (held_out.watering_can, 1.0),
}

SPLITS = {"train": TRAINED, "held_out": HELD_OUT}
# Stable numbers for batches: trained families first, in the order above.
FAMILY_NAMES: tuple[str, ...] = (*TRAINED, *HELD_OUT)


def family_id(name: str) -> int:
    """Number of a family in a batch."""
    return FAMILY_NAMES.index(name)


def draw_shape(seed: int, index: int, *, split: str = "train", family: str | None = None) -> Shape:
    """The object of (seed, index): always the same one.

    Args:
        seed: data set; evaluation uses seeds that training does not use.
        index: object number.
        split: "train" or "held_out".
        family: only this family, instead of a random one by weight.

    Raises:
        InputError: unknown split or family.
    """
    if split not in SPLITS:
        raise InputError(f"Split '{split}' is unknown.", hint=f"Use one of {', '.join(SPLITS)}.")
    if family is None:
        names = list(SPLITS[split])
        weights = [weight for _, weight in SPLITS[split].values()]
        family = Draws(FAMILY_STREAM, seed, index).choice(names, weights)
    every = {**TRAINED, **HELD_OUT}
    if family not in every:
        raise InputError(f"Family '{family}' is unknown.", hint=f"Use one of {', '.join(every)}.")
    return replace(every[family][0](Draws(OBJECT_STREAM, seed, index)), family=family)
