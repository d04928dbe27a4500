"""Recorded exchanges with real servers, replayed through the real SDK over loopback HTTP, and the spans they leave."""
