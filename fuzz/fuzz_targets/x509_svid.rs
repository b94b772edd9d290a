//! See `cardinal_testkit::fuzz::X509_SVID`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::X509_SVID);
