"""What a person waits for, measured against the direct way in the same run; each script prints ratios."""
