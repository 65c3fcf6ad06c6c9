"""What a completed cloud is worth to a parallel gripper: grasps are found on it and tried on the
true shape in a physics simulation."""
