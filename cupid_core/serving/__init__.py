"""Reconstruction as a service, without ROS: frames in, observations out, the networks in a process of their own.

CameraFrame -> Server -> SceneRequest -> Worker -> worker process: CupidJob -> SceneRecord -> Observation
(frames)       (server)  (records)       (worker)  (worker_process, jobs)     (records)      (records)
"""
