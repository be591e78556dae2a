"""Processes while they run, wait and end, alone and as a tree."""
