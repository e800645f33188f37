"""Where a run's numbers are shown besides its folder: TensorBoard, Weights & Biases, Trackio, MLflow, strangers'."""
