"""The checks of ``drse doctor``: each one looks at one thing, and says what to do when it is not right."""
