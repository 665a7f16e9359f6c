"""What tasks do with each other: cancel scopes, groups, several awaitables at once."""
