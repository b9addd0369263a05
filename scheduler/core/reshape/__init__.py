"""Elastic sizes and moves: what runs takes another shape or place so that more fits."""
