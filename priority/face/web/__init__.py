"""The page: the same verbs for a browser, drawn by the API's own process. It reads and changes nothing."""
