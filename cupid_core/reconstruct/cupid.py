"""The package in one class: load a checkpoint, reconstruct an object or a scene; knows the order of calls only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.image.masks import mask_from_alpha, mask_from_array
from cupid_core.image.rectify import rectify
from cupid_core.image.rgb import to_rgb8
from cupid_core.models.bundle import NetworkBundle
from cupid_core.reconstruct.early import pose_up_to_scale
from cupid_core.reconstruct.frame import Frame
from cupid_core.reconstruct.method import Request, reconstruct_views
from cupid_core.reconstruct.progress import Cancelled, ObjectPose, OnProgress, Run
from cupid_core.reconstruct.results import Reconstruction, SceneReconstruction
from cupid_core.reconstruct.several import reconstruct_frame
from cupid_core.reconstruct.steps import Draw
from cupid_core.reconstruct.view import ObjectView, look_at
from cupid_core.types import DepthMap


@dataclass(frozen=True)
class Cupid:
    """Objects from images.

        cupid = Cupid.from_pretrained("tabletop")
        best = cupid.reconstruct(image, mask, camera=camera).best
        best.mesh, best.pose.T_camera_object

    Attributes:
        networks: of a checkpoint.
        config: of every step.
    """

    networks: NetworkBundle
    config: CupidConfig = field(default_factory=CupidConfig)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "tabletop",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        config: CupidConfig | None = None,
        download: bool = True,
    ) -> Cupid:
        """Load a checkpoint.

        Args:
            source: "tabletop" (ships inside), a folder in the published layout, or a hub id.
            device: where the networks run.
            dtype: precision of the deep stacks; float32 on a CPU, bfloat16 or float16 on a GPU.
            config: settings; defaults where None.
            download: allow asking the hub for what is not on this machine.

        Raises:
            CheckpointError: nothing of that name, or it is damaged.
        """
        networks = NetworkBundle.from_pretrained(source, device=device, torso=dtype, download=download)
        return cls(networks, config or CupidConfig())

    def reconstruct(
        self,
        image: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        camera: Camera | None = None,
        occlusion: NDArray[np.bool_] | None = None,
        depth: DepthMap | None = None,
        seed: int = 0,
        samples: int = 1,
        pose_only: bool = False,
        on_progress: OnProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Reconstruction:
        """One object, up to scale.

        Args:
            image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, uint16 or floating in [0, 1].
            mask: (H, W), non-zero on the visible pixels of the object; None takes the alpha of the image.
            camera: of the image, distortion included; None estimates the focal length.
            occlusion: (H, W) bool, where something else hides what would be there.
            depth: aligned to the image; helps to rank hypotheses.
            seed: the same seed gives the same result.
            samples: hypotheses to draw; all are returned, best first.
            pose_only: stop after stage 1 and the pose; hypotheses then have no mesh.
            on_progress: called with stage and fraction, and once with the pose, up to scale, long before the mesh.
            cancelled: asked often; True stops.

        Returns:
            Hypotheses whose poses belong to the image without lens distortion (`hypothesis.pose.camera`).

        Raises:
            InputError: image, mask, camera or depth cannot be used (see its kinds).
            StructureEmptyError: no draw has voxels.
            PoseError: no draw has a pose.
            EmptyMeshError: no draw has a surface.
            CancelledError: the caller wanted to stop.
        """
        run = Run(on_progress, cancelled)
        with run.stage("crop"):
            view = self._view(image, mask, camera, occlusion, depth)
        request = Request(seed=seed, samples=samples, pose_only=pose_only)
        (result,) = reconstruct_views(self.networks, [view], self.config, request, run, pose_of=_pose_of_view)
        if isinstance(result, CupidError):
            raise result
        return result

    def reconstruct_views(
        self,
        views: Sequence[ObjectView],
        *,
        seed: int = 0,
        samples: int = 1,
        pose_only: bool = False,
        on_progress: OnProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> list[Reconstruction | CupidError]:
        """Objects of any images, all through the networks together; see `look_at` for how a view is made.

        Returns:
            For each view its hypotheses, or why it has none.

        Raises:
            CancelledError: the caller wanted to stop.
        """
        request = Request(seed=seed, samples=samples, pose_only=pose_only)
        run = Run(on_progress, cancelled)
        return reconstruct_views(self.networks, views, self.config, request, run, pose_of=_pose_of_view)

    def reconstruct_scene(
        self,
        image: NDArray[Any],
        masks: Mapping[int, NDArray[Any]] | NDArray[Any],
        *,
        names: Mapping[int, str] | None = None,
        camera: Camera | None = None,
        depth: DepthMap | None = None,
        longest_sides_m: Mapping[int, float] | None = None,
        only: Collection[int] | None = None,
        seed: int = 0,
        samples: int = 1,
        refine: bool = False,
        early_poses: bool = False,
        on_progress: OnProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> SceneReconstruction:
        """All objects of an image, placed together, with meshes ready for use.

        Args:
            image: as in `reconstruct`.
            masks: (H, W) of each object by id, or a label image (H, W) of ids with 0 for the background.
            names: of objects, by id.
            camera: of the image, distortion included; None takes that of the depth model, or estimates one.
            depth: metric depth aligned to the image; None leaves objects without a known size up to scale.
            longest_sides_m: longest side of objects of known size, by id, metres; depth comes first.
            only: ids to reconstruct; the masks of the others say what hides them. None takes all.
            seed: the same seed gives the same result.
            samples: hypotheses for each object; the best is placed.
            refine: move the placed objects so that they meet depth and mask better; never the shape.
            early_poses: tell `on_progress` once for each object where it stands, long before there is a mesh; in
                metres where depth or a known size gives them by then. Costs 0.1 to 0.3 s per object on a CPU.
            on_progress: called with stage and fraction.
            cancelled: asked often; True stops.

        Returns:
            The objects, and for each one that could not be reconstructed its error.

        Raises:
            InputError: image, masks, camera or depth cannot be used.
            CancelledError: the caller wanted to stop.
        """
        run = Run(on_progress, cancelled)
        with run.stage("crop"):
            frame = Frame.of(
                image, masks, names=names, camera=camera, depth=depth, sizes_m=longest_sides_m, only=only
            )
        request = Request(seed=seed, samples=samples, early_poses=early_poses)
        return reconstruct_frame(self.networks, frame, self.config, request, run, refine=refine)

    def _view(
        self,
        image: NDArray[Any],
        mask: NDArray[Any] | None,
        camera: Camera | None,
        occlusion: NDArray[np.bool_] | None,
        depth: DepthMap | None,
    ) -> ObjectView:
        """Everything that belongs to the pixels, without the lens, cut to the object."""
        picture = to_rgb8(image)
        height, width = picture.rgb.shape[:2]
        if mask is not None:
            visible = mask_from_array(mask, height, width)
        elif picture.alpha is not None:
            visible = mask_from_alpha(picture.alpha, threshold=self.config.crop.alpha_threshold)
        else:
            raise InvalidImageError("There is no mask, and the image has no alpha.", hint="Give one of them.")
        rgb = picture.rgb
        if camera is not None and camera.lens is not None:
            labels = visible.astype(np.int32)
            if occlusion is not None:
                labels += 2 * (np.asarray(occlusion) & ~visible)
            frame = rectify(rgb, camera, labels=labels, depth=depth)
            assert frame.labels is not None
            visible = frame.labels == 1
            occlusion = None if occlusion is None else frame.labels == 2
            rgb, depth, camera = frame.image, frame.depth, frame.camera
        return look_at(rgb, visible, self.config, camera=camera, occlusion=occlusion, depth=depth)


def _pose_of_view(draw: Draw) -> ObjectPose:
    return pose_up_to_scale(draw, draw.view)
