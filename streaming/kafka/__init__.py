"""Kafka as a source of images, and as a sink of rows."""
