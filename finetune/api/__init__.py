"""The job API: what a request may say, and the answers to it."""
