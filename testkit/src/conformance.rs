//! The contract of the store port as a test suite: one test for each guarantee.
//!
//! A store's test file defines a function that returns a new [`StoreLocation`] and passes its path to
//! [`store_conformance!`](crate::store_conformance), which creates a `#[test]` for every guarantee. After each test,
//! the store must also pass its own verification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a panic is how a test fails"
)]
#![allow(missing_docs, reason = "the name of a test says what it checks")]

pub mod branches;
pub mod checkpoints;
pub mod concurrency;
pub mod imports;
pub mod maintenance;
pub mod messages;
pub mod operations;
pub mod replies;
pub mod runs;
pub mod scenarios;
pub mod search;
pub mod sessions;
pub mod trash;
pub mod turns;

mod fixture;

use hfs_core::Store;

pub use fixture::Fixture;

/// The location of a store. Each test gets a new one with an empty store.
pub trait StoreLocation: Sync {
    /// Opens the store, as a separate process would. Dropping the returned instance abandons its unfinished replies.
    fn open(&self) -> Box<dyn Store>;

    /// Vacuums the store, as a user who may do that.
    fn vacuum(&self) {
        self.open().vacuum().unwrap();
    }

    /// Whether the store can be tested on this machine. If not, the location has printed why.
    fn is_available(&self) -> bool {
        true
    }
}

/// Runs one test at a location, then verifies the store.
pub fn check(location: &dyn StoreLocation, test: fn(&Fixture<'_>)) {
    if !location.is_available() {
        return;
    }
    test(&Fixture::new(location));
    let verification = location.open().verify().unwrap();
    assert!(verification.is_ok(), "the store is damaged: {:#?}", verification.problems);
}

/// Creates a `#[test]` for every guarantee. Takes the path of a function that returns a new [`StoreLocation`].
#[macro_export]
macro_rules! store_conformance {
    // The rules with `@` are internal. `@guarantees` contains the list of all tests, and passes it on to the rule in
    // its argument: `@tests` creates the test functions, `@names` an array of their names.
    (@guarantees ($($then:tt)*)) => {
        $crate::store_conformance! {
            $($then)*;
            branches {
                parents_are_listed_before_their_children
                a_new_branch_becomes_current
                a_rewind_goes_back_to_its_checkpoint
                only_a_fork_or_a_rewind_to_a_checkpoint_of_the_session_creates_a_branch
                branch_names_and_ids_are_unique
                switching_makes_a_branch_current
                a_branch_can_be_renamed
                a_rewind_without_a_checkpoint_starts_without_a_state
                a_switch_to_an_undone_branch_ends_that_it_is_undone
                an_undone_branch_is_kept_and_can_be_continued_after_a_switch
                a_reply_on_a_branch_that_is_undone_meanwhile_is_kept
                a_fork_shares_messages_with_its_parent_without_copies
                a_branch_can_be_forked_at_any_position_up_to_its_head
                a_fork_before_its_parents_fork_shares_messages_with_the_grandparent
                ranges_are_correct_at_any_depth_of_forks
                branches_can_be_written_independently
                a_branch_cannot_be_forked_after_a_reply_that_is_being_written
                a_fork_after_an_interrupted_reply_contains_it
                a_saved_branch_state_is_read_back
                a_checkpoint_does_not_change_the_state_of_its_branch
                a_rewound_branch_keeps_its_state_when_the_checkpoint_is_deleted
                a_fork_starts_with_the_state_of_the_nearest_checkpoint_before_it
                a_fork_of_a_fork_considers_only_checkpoints_in_its_own_history
                a_branch_state_equal_to_a_checkpoint_takes_no_space
                plugin_states_can_be_saved_without_the_rest_of_the_state
                concurrent_saves_of_plugin_states_and_run_states_do_not_overwrite_each_other
            }
            checkpoints {
                a_checkpoint_is_stored_with_its_state
                checkpoints_are_listed_oldest_first
                only_the_newest_automatic_checkpoints_are_kept
                retention_is_by_time_and_per_session
                a_long_run_does_not_displace_the_final_checkpoints_of_earlier_runs
                numbers_are_given_once
                the_checkpoints_of_a_failed_run_are_withdrawn
                a_pinned_checkpoint_is_kept_until_it_is_unpinned
                deleting_a_checkpoint_leaves_the_others_intact
                equal_states_are_stored_once
                states_of_very_different_sizes_are_stored_together
                a_checkpoint_needs_an_existing_position
                a_checkpoint_does_not_change_its_session
            }
            concurrency {
                concurrent_appends_to_one_branch_are_complete_and_not_interleaved
                concurrent_appends_through_one_instance_are_not_interleaved
                different_sessions_can_be_written_concurrently
                concurrent_writers_never_share_a_name_an_id_or_a_reply
                readers_see_appends_completely_or_not_at_all
                concurrent_structural_changes_do_not_disturb_appends
            }
            imports {
                an_import_becomes_visible_as_a_whole_when_it_finishes
                an_imported_branch_can_be_undone
                an_imported_session_can_be_continued
                a_dropped_import_leaves_no_data
                an_inconsistent_import_is_rejected
                an_existing_id_is_a_conflict
                other_writers_are_not_blocked_by_an_import
                an_import_is_dropped_with_its_store
                a_purge_keeps_attachments_of_a_running_import
                an_imported_streaming_message_becomes_interrupted
                an_updated_message_keeps_its_place_and_is_found_by_its_new_text
                only_imported_messages_can_be_updated
                a_supplement_adds_to_a_recorded_message_and_changes_nothing_else
                an_import_adds_a_branch_without_making_it_current
                an_update_of_a_session_needs_the_attributes_that_it_is_based_on
                a_source_is_known_until_one_of_its_sessions_is_deleted
            }
            maintenance {
                an_empty_store_is_valid
                the_info_counts_everything
                repair_and_vacuum_do_not_change_a_valid_store
                a_snapshot_does_not_change
            }
            messages {
                every_field_of_a_message_is_stored
                every_role_and_status_is_stored
                a_message_of_any_size_is_stored
                seqs_count_from_one_without_gaps
                an_empty_append_only_checks_the_position
                an_append_at_a_stale_head_changes_nothing
                message_ids_are_unique_in_the_store
                unknown_ids_are_not_found
                an_appended_message_is_never_streaming
                a_message_cannot_refer_to_a_missing_attachment
                a_range_contains_exactly_its_messages
                an_attachment_is_read_back_unchanged
                an_attachment_with_a_wrong_hash_is_rejected
            }
            operations {
                each_change_is_recorded_with_the_attributes_before_and_after
                a_rejected_change_is_not_recorded
                operations_are_listed_newest_first_in_pages
                a_cursor_in_the_operations_stays_valid_while_more_are_recorded
                operations_are_ordered_by_recording_not_by_time
                a_rename_can_be_undone
                a_fork_can_be_undone
                a_rewind_can_be_undone
                a_switch_can_be_undone
                a_branch_rename_can_be_undone
                a_deletion_can_be_undone
                a_restoration_can_be_undone
                undo_restores_an_automatic_name_as_automatic
                a_series_of_changes_can_be_undone_and_redone
                redo_restores_the_messages_of_an_undone_branch
                undo_does_not_overwrite_later_changes
                an_operation_cannot_be_undone_or_redone_twice
                operations_that_cannot_be_undone_are_rejected
                the_current_branch_is_never_undone
                undoing_a_branch_rename_needs_the_old_name_to_be_free
                sessions_have_independent_undo_histories
            }
            replies {
                a_message_and_the_start_of_its_reply_are_one_unit
                a_reply_is_visible_while_it_is_streamed
                a_change_between_text_and_thinking_starts_a_new_part
                finishing_a_reply_keeps_its_id_and_position_and_replaces_the_rest
                a_finished_reply_cannot_be_changed
                a_branch_is_locked_while_a_reply_is_written
                only_the_instance_that_began_a_reply_can_write_it
                a_reply_is_interrupted_when_its_writer_closes_the_store
                an_abandoned_reply_is_recovered_once
                an_append_after_an_abandoned_reply_recovers_it
                a_long_reply_can_be_streamed_in_many_deltas
                a_restart_does_not_change_finished_replies
            }
            runs {
                a_run_is_stored_with_events_of_every_kind
                saving_a_run_again_replaces_it
                runs_are_listed_in_the_order_of_their_start
                a_run_needs_an_existing_branch
            }
            scenarios {
                a_conversation_is_continued_after_a_crash
                a_rewind_is_undone_and_redone
                a_second_writer_of_a_branch_gets_a_conflict_and_forks
                a_year_of_sessions_is_listed_searched_and_purged
            }
            search {
                a_hit_contains_its_session_branch_and_message
                the_snippet_of_a_long_text_is_the_context_of_the_match
                every_kind_of_part_is_searched
                every_appended_message_is_found_at_once
                a_reply_is_found_after_it_is_finished_or_recovered
                messages_after_an_interrupted_reply_are_found
                a_message_shared_by_branches_is_one_hit
                undone_branches_are_searched_and_the_trash_is_not
                hits_can_be_filtered_by_session_role_and_time
                hits_can_be_filtered_by_project_tool_and_trash
                better_matches_come_first
                updating_the_index_can_be_stopped_and_resumed
                all_words_must_occur_in_any_order
                a_phrase_matches_adjacent_words
                words_joined_by_punctuation_match_adjacent_words
                a_star_matches_the_rest_of_a_word
                case_and_diacritics_are_ignored
                words_of_other_scripts_and_numbers_are_found
                other_forms_of_a_word_are_found_unless_it_is_quoted
                words_inside_texts_without_spaces_are_found
                parts_of_identifiers_and_versions_are_found
                the_beginning_of_a_hash_is_found
                changed_and_deleted_messages_leave_no_forms_and_parts
                candidates_have_any_of_the_terms
                candidates_are_selected_by_sessions_and_not_from_the_trash
                a_question_may_have_many_terms
                any_text_is_a_valid_query
            }
            sessions {
                a_new_session_has_an_empty_main_branch
                a_session_is_the_same_in_every_process
                session_and_branch_ids_are_unique
                unknown_ids_are_not_found
                a_rename_by_the_user_is_recorded
                an_automatic_name_replaces_an_automatic_one_without_a_record
                an_automatic_name_never_replaces_a_users_name
                the_project_can_be_set_later
                a_summary_counts_messages_branches_and_checkpoints
                the_time_of_the_last_change_never_decreases
                sessions_are_listed_newest_first_without_gaps_between_pages
                sessions_with_equal_times_are_each_listed_once
                a_changed_session_moves_to_the_front_of_the_list
                a_page_cursor_stays_valid_while_sessions_change
                sessions_can_be_filtered_by_project_origin_and_trash
                a_cursor_of_another_list_is_invalid
                a_session_is_found_by_its_id_a_prefix_of_it_or_its_name
                a_name_takes_precedence_over_an_id_prefix
                a_session_is_found_by_the_title_that_lists_show
                an_ambiguous_reference_lists_the_candidates
                a_reference_by_age_counts_from_the_newest_session
                a_trashed_session_is_found_only_in_the_trash
                references_have_no_wildcards
            }
            trash {
                a_trashed_session_is_hidden_and_can_be_restored
                a_trashed_session_can_be_written
                a_purge_removes_everything_of_a_session
                an_id_can_be_reused_after_a_purge
                a_purge_deletes_only_attachments_without_other_references
                the_trash_is_purged_by_age
                the_origin_of_a_purged_session_is_remembered_until_it_is_imported_again
                a_transcript_that_continues_a_purged_session_is_recognized
                a_purge_ends_a_reply_of_the_session
            }
            turns {
                calls_and_results_are_visible_while_they_stream
                output_of_a_running_tool_extends_its_result
                a_turn_continues_with_its_next_message_as_one_unit
                a_branch_is_locked_between_the_messages_of_a_turn
                a_turn_that_cannot_continue_is_unchanged
                an_abandoned_turn_keeps_its_messages
                a_turn_continues_on_a_branch_that_was_undone
            }
        }
    };
    (@tests $location:path; $($group:ident { $($guarantee:ident)* })*) => {
        $(mod $group {
            $(#[test]
            fn $guarantee() {
                $crate::conformance::check(&$location(), $crate::conformance::$group::$guarantee);
            })*
        })*
    };
    (@names; $($group:ident { $($guarantee:ident)* })*) => {
        [$((stringify!($group), vec![$(stringify!($guarantee)),*])),*]
    };
    ($location:path) => {
        $crate::store_conformance! { @guarantees (@tests $location) }
    };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_test_function_is_in_the_macros_list() {
        let listed = crate::store_conformance! { @guarantees (@names) };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance");
        let mut files = 0;
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let group = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if group == "fixture" {
                continue;
            }
            files += 1;
            let (_, guarantees) = listed.iter().find(|(name, _)| *name == group).unwrap();
            let source = fs::read_to_string(&path).unwrap();
            let defined: Vec<&str> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub fn ")?.split_once('(').map(|(name, _)| name))
                .collect();
            assert_eq!(*guarantees, defined, "{group}");
        }
        assert_eq!(files, listed.len());
    }
}
