"""What the tests in viztracer's source package import and the package lacks, in this project's words."""
