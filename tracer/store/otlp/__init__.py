"""Spans go to a receiver of OpenTelemetry's protocol, and nowhere else."""
