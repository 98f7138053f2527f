"""Views of the same verbs: the API, its client, the command line, the demo and the bench. None holds a rule."""
