"""What happens to voxels between the file and the network, and back."""
