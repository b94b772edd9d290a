//! Log records: Kong's serializer fields, from the facts of an exchange.
