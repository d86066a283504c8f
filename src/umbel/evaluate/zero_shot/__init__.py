"""What a model expects of substitutions whose effect is known, beside what composition alone would say."""
