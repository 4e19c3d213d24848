"""Who asks: users, tokens, issuers of OpenID Connect, and what of the registry each may reach at all."""
