//! One suite that every store passes: the promises of the port, one test each.
//!
//! A store's tests name a function that makes a new [`Place`], and [`store_conformance!`](crate::store_conformance)
//! makes a `#[test]` of every promise. After each of them the store must still verify clean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is a test's own way of speaking"
)]
#![allow(missing_docs, reason = "a promise's name says what it promises")]

pub mod attachments;
pub mod branch_states;
pub mod branches;
pub mod checkpoints;
pub mod crowds;
pub mod forks;
pub mod imports;
pub mod lists;
pub mod maintenance;
pub mod messages;
pub mod names;
pub mod operations;
pub mod replies;
pub mod runs;
pub mod search;
pub mod search_texts;
pub mod sessions;
pub mod stories;
pub mod trash;
pub mod undo;

mod scene;

use hfs_core::Store;

pub use scene::Scene;

/// Where a store is. New and empty when it is made.
pub trait Place: Sync {
    /// Opens the store there as another process would. A reply that was begun through an instance is interrupted
    /// once that instance is dropped.
    fn open(&self) -> Box<dyn Store>;
}

/// Runs one promise at a place, and looks whether the store is well after it.
pub fn check(place: &dyn Place, promise: fn(&Scene<'_>)) {
    promise(&Scene::new(place));
    let verification = place.open().verify().unwrap();
    assert!(verification.is_ok(), "the store is damaged: {:#?}", verification.problems);
}

/// Makes a `#[test]` of every promise. Takes the path of a function without arguments that makes a new [`Place`].
#[macro_export]
macro_rules! store_conformance {
    (@promises ($($then:tt)*)) => {
        $crate::store_conformance! {
            $($then)*;
            attachments {
                bytes_come_back_as_they_were
                bytes_that_do_not_match_their_hash_are_refused
            }
            branch_states {
                what_is_saved_for_a_branch_is_what_it_starts_from
                a_checkpoint_is_not_what_its_own_branch_starts_from
                a_rewound_branch_keeps_its_state_without_the_checkpoint
                a_fork_starts_from_the_nearest_checkpoint_before_it
                a_fork_of_a_fork_looks_along_the_history_that_it_shares
                a_state_that_equals_a_checkpoints_costs_nothing
                what_plugins_keep_changes_alone
                what_plugins_keep_and_what_runs_leave_do_not_undo_each_other
            }
            branches {
                parents_are_listed_before_their_children
                a_new_branch_is_the_current_one
                a_rewind_goes_back_to_its_checkpoint
                a_branch_is_made_by_a_fork_or_by_a_rewind_with_its_checkpoint
                names_and_ids_of_branches_are_taken_once
                switching_makes_a_branch_current
                a_branch_can_be_renamed
                a_retired_branch_is_kept_but_not_gone_on_with
                a_reply_on_a_branch_that_is_retired_meanwhile_is_kept
            }
            checkpoints {
                a_checkpoint_is_kept_with_its_state
                checkpoints_are_listed_oldest_first
                only_the_newest_automatic_ones_are_kept
                retention_looks_at_times_and_at_one_session_only
                a_long_run_does_not_take_away_the_ends_of_those_before_it
                a_pin_protects_while_it_is_there
                a_deleted_checkpoint_is_gone_and_leaves_the_others_whole
                equal_states_are_stored_once
                states_of_very_different_sizes_live_together
                a_checkpoint_marks_a_place_that_exists
                a_checkpoint_moves_no_session
            }
            crowds {
                writers_of_one_branch_lose_nothing_and_do_not_interleave
                writers_of_one_instance_do_not_interleave_either
                sessions_are_written_to_side_by_side
                only_one_of_many_takes_a_name_an_id_or_the_floor
                readers_see_whole_appends
                structural_changes_do_not_disturb_who_speaks
            }
            forks {
                a_fork_shares_its_beginning_and_copies_nothing
                a_fork_can_lie_anywhere_up_to_the_head
                a_fork_below_its_parents_fork_shares_with_the_grandparent
                a_range_is_the_same_at_any_depth_of_forks
                branches_are_written_to_independently
                no_fork_lies_behind_a_reply_that_is_being_written
                a_fork_behind_an_interrupted_reply_keeps_it
            }
            imports {
                an_import_appears_whole_at_its_end
                an_imported_session_goes_on_like_any_other
                what_was_dropped_on_the_way_leaves_nothing
                an_import_that_makes_no_sense_is_refused
                an_id_that_exists_is_a_conflict
                others_go_on_while_an_import_runs
                an_import_ends_with_the_store_that_it_goes_through
                a_purge_takes_no_attachment_away_from_an_import
                what_was_streaming_elsewhere_is_interrupted_here
            }
            lists {
                the_newest_come_first_and_pages_have_no_gaps
                sessions_of_the_same_time_are_each_listed_once
                what_is_spoken_in_comes_to_the_front
                a_page_stays_good_when_sessions_come_and_go
                a_list_shows_a_project_an_origin_or_the_trash
                a_cursor_of_another_list_is_invalid
            }
            maintenance {
                an_empty_store_is_well
                facts_count_everything_that_is_there
                repairing_and_vacuuming_a_well_store_changes_nothing
            }
            messages {
                every_field_of_a_message_is_kept
                every_role_and_status_is_kept
                a_message_of_any_size_is_kept
                seqs_count_from_one_without_gaps
                an_append_of_nothing_only_looks
                an_append_behind_a_moved_head_changes_nothing
                an_id_is_taken_once_in_the_whole_store
                what_is_not_there_is_not_found
                a_message_without_a_writer_is_never_streaming
                a_message_cannot_refer_to_bytes_that_are_not_there
                a_range_gives_what_it_says
            }
            names {
                an_id_or_its_beginning_or_a_name_finds_a_session
                a_name_goes_before_the_beginning_of_an_id
                an_ambiguous_reference_lists_what_it_could_mean
                a_reference_by_age_counts_from_the_newest
                what_is_in_the_trash_is_found_there_only
                nothing_typed_has_a_hidden_meaning
            }
            operations {
                each_change_is_recorded_with_what_was_before_and_after
                a_refused_change_is_not_recorded
                operations_are_listed_by_pages_the_newest_first
                a_page_of_operations_stays_good_while_more_are_recorded
                the_order_is_that_of_recording_whatever_the_clock_says
            }
            replies {
                a_reply_is_seen_as_it_arrives
                a_change_of_kind_begins_a_new_part
                a_finished_reply_keeps_its_id_and_place_and_takes_the_rest
                a_finished_reply_is_finished
                nobody_speaks_while_a_reply_is_being_written
                only_who_began_a_reply_writes_it
                a_reply_whose_writer_is_gone_is_interrupted_at_once
                an_interrupted_reply_is_settled_once
                what_goes_on_behind_an_interrupted_reply_settles_it
                a_long_reply_arrives_in_many_pieces
                a_restart_leaves_what_was_finished_alone
            }
            runs {
                a_run_is_kept_with_events_of_every_kind
                a_run_replaces_what_was_stored_of_it
                runs_are_listed_by_their_beginning
                a_run_needs_its_branch
            }
            search {
                a_hit_says_where_it_is
                a_snippet_of_a_long_text_shows_the_surroundings
                every_kind_of_part_is_searched
                everything_that_was_acknowledged_is_found
                a_reply_is_found_when_it_is_finished_or_settled
                what_was_said_behind_an_interrupted_reply_is_found
                a_message_that_branches_share_is_one_hit
                retired_branches_are_searched_and_the_trash_is_not
                hits_can_be_limited_to_a_session_a_role_and_a_time
                what_matches_better_comes_first
                what_waits_for_the_index_is_indexed_as_far_as_it_is_wanted
            }
            search_texts {
                all_words_must_occur_in_any_order
                any_word_is_enough_when_that_is_asked_for
                a_phrase_is_found_where_its_words_follow_each_other
                joined_words_are_found_where_they_follow_each_other
                a_star_stands_for_the_rest_of_a_word
                case_and_diacritics_do_not_matter
                other_scripts_and_numbers_are_words_too
                no_text_is_a_syntax_error
            }
            sessions {
                a_new_session_is_there_with_an_empty_main_branch
                a_session_is_the_same_for_every_process
                an_id_is_taken_once
                what_is_not_there_is_not_found
                a_person_renames_and_that_is_recorded
                an_automatic_name_follows_an_automatic_one_without_a_record
                an_automatic_name_never_replaces_a_persons
                the_project_can_be_learnt_late
                a_summary_counts_what_is_there
                the_time_of_the_last_change_only_moves_forward
            }
            stories {
                a_conversation_is_held_left_and_resumed
                a_wrong_turn_is_taken_back_and_gone_back_to
                two_people_find_out_that_they_write_to_the_same_branch
                a_year_of_sessions_is_listed_searched_and_cleaned_up
            }
            trash {
                a_trashed_session_is_out_of_sight_and_comes_back_whole
                what_is_in_the_trash_can_be_written_to
                a_purge_leaves_nothing_of_a_session
                an_id_is_free_again_after_a_purge
                a_purge_takes_only_attachments_that_nobody_else_refers_to
                the_trash_is_emptied_by_age
                a_reply_ends_with_its_session
            }
            undo {
                a_rename_is_undone
                a_fork_is_undone
                a_rewind_is_undone
                a_switch_is_undone
                a_branchs_rename_is_undone
                a_deletion_is_undone
                a_restoration_is_undone
                an_automatic_name_comes_back_as_one
                everything_is_undone_step_by_step_and_redone
                what_was_said_since_stays_and_comes_back
                what_has_changed_since_is_not_overwritten
                nothing_is_undone_or_redone_twice
                what_cannot_be_undone_says_so
                the_current_branch_is_never_a_retired_one
                a_branchs_name_comes_back_only_where_it_is_free
                sessions_are_undone_independently
            }
        }
    };
    (@tests $place:path; $($group:ident { $($promise:ident)* })*) => {
        $(mod $group {
            $(#[test]
            fn $promise() {
                $crate::conformance::check(&$place(), $crate::conformance::$group::$promise);
            })*
        })*
    };
    (@names; $($group:ident { $($promise:ident)* })*) => {
        [$((stringify!($group), vec![$(stringify!($promise)),*])),*]
    };
    ($place:path) => {
        $crate::store_conformance! { @promises (@tests $place) }
    };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_promise_is_in_the_list() {
        let listed = crate::store_conformance! { @promises (@names) };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance");
        let mut files = 0;
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let group = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if group == "scene" {
                continue;
            }
            files += 1;
            let (_, promises) = listed.iter().find(|(name, _)| *name == group).unwrap();
            let source = fs::read_to_string(&path).unwrap();
            let written: Vec<&str> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub fn ")?.split_once('(').map(|(name, _)| name))
                .collect();
            assert_eq!(*promises, written, "{group}");
        }
        assert_eq!(files, listed.len());
    }
}
