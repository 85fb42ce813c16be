"""Experiment tracking: the only package that knows MLflow. Importing it imports no MLflow."""
