//! The cases of the contract. Each gets an empty store.

mod concurrent;
mod hostile;
mod lists;
mod log;
mod references;
mod uniques;
mod writes;

use cardinal_testkit::within;

use crate::world::Subject;

/// Runs every case on a store of its own.
pub(crate) async fn contract(make: impl AsyncFn() -> Subject) {
    macro_rules! run {
        ($($module:ident: $($case:ident),+;)+) => { $($(
            let name = concat!(stringify!($module), "::", stringify!($case));
            eprintln!("case {name}");
            within(name, $module::$case(make().await)).await.unwrap();
        )+)+ };
    }
    run! {
        writes: a_document_is_what_was_written, expectations, expected_revision_of_the_store, an_equal_put_is_no_change,
            every_part_of_a_document_is_a_change, a_document_is_written_once,
            a_document_is_deleted_and_made_anew, an_empty_batch_is_no_change,
            revisions_only_grow, a_dropped_commit_is_applied_or_not;
        uniques: one_owner, keys_are_exchanged_in_a_batch, a_key_moves_from_a_deleted_document, kinds_do_not_share_keys,
            a_key_twice_in_a_batch, a_replaced_document_gives_its_keys_back, a_cascade_gives_keys_back;
        references: a_target_must_exist, the_order_of_writes_does_not_matter, restricted, cascades_are_transitive,
            a_diamond, a_cycle, a_reference_to_itself, a_restriction_below_a_cascade, a_restriction_within_a_cascade,
            a_target_deleted_in_the_same_batch, a_reference_removed_in_the_same_batch,
            the_first_write_with_a_violation_is_named, a_target_that_is_made_anew_loses_its_children;
        lists: pages, pages_under_writes, tags, a_reference, a_space, ids_are_ordered_by_bytes, limits_of_pages, kinds;
        log: changes, whole_revisions, generations, the_watch, the_chain, pruning, pruning_by_time,
            pruned_documents_are_verified, documents_at_a_revision;
        hostile: texts, numbers, depth, sizes, lengths;
        concurrent: counters, readers_see_whole_batches;
    }
}
