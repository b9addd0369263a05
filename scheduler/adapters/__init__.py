"""The outside: Ray and the vendors' device libraries."""
