"""Which prompts another engine reads for the one that answers, by what that has been measured to take."""
