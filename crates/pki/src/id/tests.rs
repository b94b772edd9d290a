use proptest::prelude::*;

use super::*;

fn check(text: &str, expect: Result<(&str, &str), IdError>) {
    let found = SpiffeId::parse(text);
    assert_eq!(found.as_ref().map(|id| (id.domain_name(), id.path())).map_err(|e| *e), expect, "{text}");
    if let Ok(id) = found {
        assert_eq!(id.to_string(), text);
        assert_eq!(SpiffeId::new(&id.trust_domain(), id.path()), Ok(id));
    }
}

#[test]
fn ids_have_one_spelling() {
    check("spiffe://example.com", Ok(("example.com", "")));
    check("spiffe://a_b-c.0/ns/shop/sa/Cart_1.x-y", Ok(("a_b-c.0", "/ns/shop/sa/Cart_1.x-y")));
    check("spiffe://d/...", Ok(("d", "/...")));
    check("spiffe://d/.a", Ok(("d", "/.a")));
    for (text, error) in [
        ("", IdError::Scheme),
        ("spiffe:/d/a", IdError::Scheme),
        ("SPIFFE://d/a", IdError::Scheme),
        ("Spiffe://d/a", IdError::Scheme),
        ("https://d/a", IdError::Scheme),
        (" spiffe://d/a", IdError::Scheme),
        ("spiffe://", IdError::DomainEmpty),
        ("spiffe:///a", IdError::DomainEmpty),
        ("spiffe://D/a", IdError::DomainCharacter('D')),
        ("spiffe://d:443/a", IdError::DomainCharacter(':')),
        ("spiffe://u@d/a", IdError::DomainCharacter('@')),
        ("spiffe://[::1]/a", IdError::DomainCharacter('[')),
        ("spiffe://d%41/a", IdError::DomainCharacter('%')),
        ("spiffe://d?a", IdError::DomainCharacter('?')),
        ("spiffe://d#a", IdError::DomainCharacter('#')),
        ("spiffe://bücher/a", IdError::DomainCharacter('ü')),
        ("spiffe://d/", IdError::SegmentEmpty),
        ("spiffe://d//a", IdError::SegmentEmpty),
        ("spiffe://d/a/", IdError::SegmentEmpty),
        ("spiffe://d/a//b", IdError::SegmentEmpty),
        ("spiffe://d/.", IdError::SegmentRelative),
        ("spiffe://d/a/../b", IdError::SegmentRelative),
        ("spiffe://d/a%2fb", IdError::PathCharacter('%')),
        ("spiffe://d/a?b", IdError::PathCharacter('?')),
        ("spiffe://d/a#b", IdError::PathCharacter('#')),
        ("spiffe://d/a b", IdError::PathCharacter(' ')),
        ("spiffe://d/a\0", IdError::PathCharacter('\0')),
        ("spiffe://d/ä", IdError::PathCharacter('ä')),
    ] {
        check(text, Err(error));
    }
}

#[test]
fn lengths_are_limited() {
    let domain = "d".repeat(255);
    assert_eq!(TrustDomain::parse(&domain).unwrap().as_str(), domain);
    assert_eq!(TrustDomain::parse(&"d".repeat(256)), Err(IdError::DomainTooLong));
    let at_most = format!("spiffe://d/{}", "a".repeat(2048 - 11));
    assert_eq!(SpiffeId::parse(&at_most).unwrap().as_str().len(), 2048);
    assert_eq!(SpiffeId::parse(&format!("{at_most}a")), Err(IdError::TooLong));
    let domain = TrustDomain::parse("d").unwrap();
    assert!(SpiffeId::new(&domain, &format!("/{}", "a".repeat(2048 - 11))).is_ok());
    assert_eq!(SpiffeId::new(&domain, &format!("/{}", "a".repeat(2048 - 10))), Err(IdError::TooLong));
    assert_eq!(SpiffeId::new(&domain, "a"), Err(IdError::PathStart));
    assert_eq!(SpiffeId::new(&domain, ""), Ok(domain.id()));
}

#[test]
fn prefixes_end_at_segments() {
    let id = |text| SpiffeId::parse(text).unwrap();
    for (of, prefix, expect) in [
        ("spiffe://d/ns/shop/sa/cart", "spiffe://d/ns/shop", true),
        ("spiffe://d/ns/shop", "spiffe://d/ns/shop", true),
        ("spiffe://d/ns/shopping", "spiffe://d/ns/shop", false),
        ("spiffe://d/ns", "spiffe://d/ns/shop", false),
        ("spiffe://d/ns", "spiffe://d", true),
        ("spiffe://d.evil/ns", "spiffe://d", false),
        ("spiffe://e/ns", "spiffe://d", false),
    ] {
        assert_eq!(id(of).is_within(&id(prefix)), expect, "{of} {prefix}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_comes_back(text in "(spiffe://)?[a-zA-Z0-9./_:%?#@-]{0,40}|\\PC*") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.to_string(), text.clone());
            prop_assert_eq!(format!("spiffe://{}{}", id.domain_name(), id.path()), text);
            prop_assert!(id.is_within(&id.trust_domain().id()));
            prop_assert!(TrustDomain::parse(id.domain_name()).is_ok());
        }
    }

    #[test]
    fn valid_parts_make_valid_ids(domain in "[a-z0-9._-]{1,255}", path in "(/[a-z_-][a-zA-Z0-9._-]{0,20}){0,8}") {
        let domain = TrustDomain::parse(&domain).unwrap();
        let id = SpiffeId::new(&domain, &path).unwrap();
        prop_assert_eq!(SpiffeId::parse(id.as_str()), Ok(id.clone()));
        prop_assert_eq!(id.trust_domain(), domain);
        prop_assert_eq!(id.path(), path);
    }
}
