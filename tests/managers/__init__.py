"""Managers and their proxies."""
