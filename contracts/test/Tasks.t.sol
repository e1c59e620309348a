// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {TaskCoordinator} from "../src/TaskCoordinator.sol";
import {Base} from "./Base.sol";

contract TasksTest is Base {
    bytes32[] private none;

    // ----------------------------------------------------------------- submit

    function test_submit_opensATask() public {
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskSubmitted(CID, SUBMITTER, 0, REWARD, FEE, block.timestamp + 7 days);
        open();
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        isState(CID, ITaskCoordinator.State.Open);
        eq(task.reward, REWARD, "reward");
        eq(task.fee, FEE, "fee");
        eq(task.expiresAt, block.timestamp + 7 days, "expiry");
        (uint256 reward, uint256 fee) = coordinator.shareOf(CID, 0, SUBMITTER);
        eq(reward + fee, REWARD + FEE, "share");
    }

    function test_submit_refusesNonsense() public {
        vm.startPrank(SUBMITTER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroCID.selector));
        coordinator.submitTask{value: 1 ether}(bytes32(0), REWARD);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ValueTooLow.selector, REWARD + FEE, REWARD));
        coordinator.submitTask{value: REWARD}(CID, REWARD);
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.submitTasks(none, REWARD);
        vm.expectRevert();
        coordinator.submitTask(CID, type(uint256).max);
    }

    function test_submit_refusesWhatDoesNotFit() public {
        vm.deal(SUBMITTER, 2 ** 90);
        vm.startPrank(SUBMITTER);
        bytes4 overflow = SafeCast.SafeCastOverflowedUintDowncast.selector;
        reverts(abi.encodeWithSelector(overflow, 80, 2 ** 80));
        coordinator.submitTask{value: 2 ** 81}(CID, 2 ** 80);
        // 2 % of it takes more than 72 bits
        uint256 fee = coordinator.costOf(2 ** 80 - 1) - (2 ** 80 - 1);
        reverts(abi.encodeWithSelector(overflow, 72, fee));
        coordinator.submitTask{value: 2 ** 81}(CID, 2 ** 80 - 1);
        coordinator.submitTask{value: 2 ** 81}(CID, 2 ** 77);
    }

    function test_submit_creditsWhatIsTooMuch() public {
        vm.prank(SUBMITTER);
        coordinator.submitTask{value: 1 ether}(CID, REWARD);
        eq(coordinator.credits(SUBMITTER), 1 ether - REWARD - FEE, "credit");
    }

    function test_submit_againAddsToTheReward() public {
        open();
        vm.warp(block.timestamp + 1 days);
        submit(OTHER, CID, 2 * REWARD);
        submit(SUBMITTER, CID, REWARD);
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        eq(task.reward, 4 * REWARD, "reward");
        eq(task.fee, 4 * FEE, "fee");
        eq(task.expiresAt, block.timestamp + 6 days, "it does not live longer for it");
        eq(task.generation, 0, "generation");
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        eq(coordinator.credits(SUBMITTER), 2 * (REWARD + FEE), "one's own share");
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "the other's stays");
    }

    function test_submit_whileHeldWaitsForTheNextExecution() public {
        claimed();
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskSubmitted(CID, OTHER, 1, REWARD, FEE, block.timestamp + 7 days);
        submit(OTHER, CID, REWARD);
        submit(SUBMITTER, CID, REWARD);
        eq(coordinator.getTask(CID).generation, 0, "the claim goes on");
        eq(coordinator.getTask(CID).reward, REWARD, "for what it was");
        eq(coordinator.getTaskAt(CID, 1).reward, 2 * REWARD, "the next");
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        eq(coordinator.credits(WORKER), REWARD, "paid for the first");
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskClaimed(CID, WORKER, 1, 2 * REWARD, 2 * LOCK, block.timestamp + 1 hours);
        claim(WORKER, CID);
        eq(coordinator.getTask(CID).generation, 1, "generation");
    }

    function test_submit_whileHeldCanBeTakenBackAtOnce() public {
        claimed();
        submit(SUBMITTER, CID, 3 * REWARD);
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        eq(coordinator.credits(SUBMITTER), 3 * (REWARD + FEE), "what waited, not what is claimed");
        vm.prank(SUBMITTER);
        revertsState(CID, ITaskCoordinator.State.Claimed);
        coordinator.cancelTask(CID);
    }

    function test_submit_whileHeldRenewsWhatExpiredWaiting() public {
        ITaskCoordinator.Settings memory brief = terms();
        brief.taskLifetime = 1 hours;
        coordinator = new TaskCoordinator(OWNER, TREASURY, ARBITRATOR, brief);
        challenged();
        submit(OTHER, CID, REWARD);
        vm.warp(block.timestamp + 2 hours);
        submit(SUBMITTER, CID, REWARD);
        eq(coordinator.getTaskAt(CID, 1).expiresAt, block.timestamp + 1 hours, "a new life");
        eq(coordinator.getTaskAt(CID, 1).reward, 2 * REWARD, "with what waited");
        ruling(1, 1);
        claim(WORKER, CID);
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "reward");
    }

    function test_submit_afterPaymentIsANewPurchase() public {
        verified();
        submit(OTHER, CID, 2 * REWARD);
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        eq(task.generation, 1, "generation");
        eq(task.reward, 2 * REWARD, "reward");
        eq(task.worker, address(0), "worker");
        eq(coordinator.getTaskAt(CID, 0).resultCID, RESULT, "the first one's result is still there");
    }

    function test_submit_afterExpiryIsANewPurchase() public {
        open();
        vm.warp(block.timestamp + 7 days);
        submit(OTHER, CID, 2 * REWARD);
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "without what expired");
        vm.startPrank(SUBMITTER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NoShare.selector, CID, SUBMITTER));
        coordinator.cancelTask(CID);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NoShare.selector, CID, SUBMITTER));
        coordinator.refund(CID, 1);
        coordinator.refund(CID, 0);
        vm.stopPrank();
        eq(coordinator.credits(SUBMITTER), REWARD + FEE, "which can be taken back");
        eq(coordinator.getTask(CID).generation, 1, "the generation stays");
    }

    function test_submit_passesOverWhatExpiredWaiting() public {
        claimed();
        submit(OTHER, CID, REWARD);
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        vm.warp(block.timestamp + 7 days);
        submit(SUBMITTER, CID, REWARD);
        eq(coordinator.getTask(CID).generation, 2, "generation");
        vm.prank(OTHER);
        coordinator.refund(CID, 1);
        eq(coordinator.credits(OTHER), REWARD + FEE, "what expired waiting");
    }

    function test_submit_joinsWhatWaitsOncePaymentIsDone() public {
        claimed();
        submit(OTHER, CID, REWARD);
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        submit(SUBMITTER, CID, REWARD);
        eq(coordinator.getTask(CID).generation, 1, "generation");
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "reward");
    }

    function test_submit_opensAgainWhatAllHaveLeft() public {
        open();
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        isState(CID, ITaskCoordinator.State.None);
        vm.warp(block.timestamp + 30 days);
        open();
        eq(coordinator.getTask(CID).expiresAt, block.timestamp + 7 days, "a new life");
        eq(coordinator.getTask(CID).generation, 0, "generation");
    }

    function test_submitTasks_paysForEachEvenTwice() public {
        bytes32[] memory cids = pair(CID, CID);
        vm.startPrank(SUBMITTER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ValueTooLow.selector, 2 * (REWARD + FEE), REWARD + FEE));
        coordinator.submitTasks{value: REWARD + FEE}(cids, REWARD);
        coordinator.submitTasks{value: 3 * (REWARD + FEE)}(cids, REWARD);
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "reward");
        eq(coordinator.credits(SUBMITTER), REWARD + FEE, "credit");
    }

    // ----------------------------------------------------------------- cancel

    function test_cancel_takesBackWhatIsOpenAndWhatWaits() public {
        claimed();
        submit(SUBMITTER, CID, 2 * REWARD);
        toDeadline(CID);
        coordinator.reclaimTask(CID);
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        eq(coordinator.credits(SUBMITTER), 3 * (REWARD + FEE), "credit");
        isState(CID, ITaskCoordinator.State.None);
    }

    function test_cancel_revertsWithoutAShare() public {
        open();
        vm.prank(OTHER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NoShare.selector, CID, OTHER));
        coordinator.cancelTask(CID);
    }

    function test_cancelTasks_passesOverWhatIsNotOnesOwn() public {
        open();
        vm.startPrank(SUBMITTER);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit Skipped(RESULT);
        eq(coordinator.cancelTasks(pair(CID, RESULT)), 1, "done");
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.cancelTasks(none);
    }

    function test_refund_revertsForWhatIsHeld() public {
        claimed();
        vm.prank(SUBMITTER);
        revertsState(CID, ITaskCoordinator.State.Claimed);
        coordinator.refund(CID, 0);
    }

    // ------------------------------------------------------------------ claim

    function test_claim_locksTenTimesTheReward() public {
        register(WORKER);
        open();
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskClaimed(CID, WORKER, 0, REWARD, LOCK, block.timestamp + 1 hours);
        claim(WORKER, CID);
        eq(lockedOf(WORKER), LOCK, "locked");
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        eq(task.worker, WORKER, "worker");
        eq(task.lock, LOCK, "lock");
        eq(task.deadline, block.timestamp + 1 hours, "deadline");
    }

    function test_claim_revertsWhileHeld() public {
        claimed();
        register(OTHER);
        vm.prank(OTHER);
        revertsState(CID, ITaskCoordinator.State.Claimed);
        coordinator.claimTask(CID);
        submit(SUBMITTER, CID, REWARD);
        vm.prank(OTHER);
        revertsState(CID, ITaskCoordinator.State.Claimed);
        coordinator.claimTask(CID);
    }

    function test_claim_revertsForAStranger() public {
        open();
        vm.startPrank(OTHER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.StakeTooLow.selector, 0.1 ether, 0));
        coordinator.claimTask(CID);
        revertsState(RESULT, ITaskCoordinator.State.None);
        coordinator.claimTask(RESULT);
    }

    function test_claim_untilItExpires() public {
        register(WORKER);
        register(OTHER);
        open();
        submit(SUBMITTER, RESULT, REWARD);
        uint256 expiresAt = coordinator.getTask(CID).expiresAt;
        vm.warp(expiresAt - 1);
        claim(WORKER, CID);
        vm.warp(expiresAt);
        vm.prank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.TaskExpired.selector, RESULT, expiresAt));
        coordinator.claimTask(RESULT);
    }

    function test_claim_turnsToWhatWaitsAfterExpiry() public {
        claimed();
        vm.warp(block.timestamp + 1 days);
        coordinator.reclaimTask(CID);
        claim(WORKER, CID);
        submit(OTHER, CID, 2 * REWARD);
        vm.warp(coordinator.getTask(CID).expiresAt);
        coordinator.reclaimTask(CID);
        claim(WORKER, CID);
        eq(coordinator.getTask(CID).generation, 1, "generation");
        eq(coordinator.getTask(CID).reward, 2 * REWARD, "reward");
        vm.prank(SUBMITTER);
        coordinator.refund(CID, 0);
    }

    function test_claim_revertsWhenWhatWaitedExpiredToo() public {
        claimed();
        submit(OTHER, CID, REWARD);
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        vm.warp(block.timestamp + 7 days);
        vm.prank(WORKER);
        revertsState(CID, ITaskCoordinator.State.Verified);
        coordinator.claimTask(CID);
    }

    function test_claimTasks_passesOverWhatCannotBeClaimed() public {
        claimed();
        submit(SUBMITTER, RESULT, REWARD);
        submit(SUBMITTER, GARBAGE, 0.1 ether);
        bytes32[] memory cids = new bytes32[](4);
        (cids[0], cids[1], cids[2], cids[3]) = (CID, RESULT, RESULT, GARBAGE);
        vm.startPrank(WORKER);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit Skipped(CID);
        eq(coordinator.claimTasks(cids), 1, "done");
        eq(lockedOf(WORKER), 2 * LOCK, "locked");
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.claimTasks(none);
    }

    // ---------------------------------------------------------------- reclaim

    function test_reclaim_fromTheDeadlineOn() public {
        claimed();
        beforeDeadline(CID);
        uint256 deadline = coordinator.getTask(CID).deadline;
        reverts(abi.encodeWithSelector(ITaskCoordinator.TooEarly.selector, CID, deadline));
        coordinator.reclaimTask(CID);
        toDeadline(CID);
        vm.prank(ANYBODY);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit ClaimExpired(CID, WORKER, ANYBODY, LOCK / 10);
        coordinator.reclaimTask(CID);
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        eq(task.worker, address(0), "worker");
        eq(task.lock, 0, "lock");
        eq(task.deadline, 0, "deadline");
        eq(lockedOf(WORKER), 0, "locked");
        eq(coordinator.credits(TREASURY), LOCK / 20, "treasury");
        revertsState(CID, ITaskCoordinator.State.Open);
        coordinator.reclaimTask(CID);
    }

    function test_reclaimTasks_passesOverOthers() public {
        claimed();
        toDeadline(CID);
        eq(coordinator.reclaimTasks(pair(CID, CID)), 1, "done");
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.reclaimTasks(none);
    }

    // ----------------------------------------------------------------- result

    function test_result_untilTheDeadline() public {
        claimed();
        beforeDeadline(CID);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit ResultSubmitted(CID, WORKER, RESULT, block.timestamp + 1 hours);
        finish(WORKER, CID, RESULT);
        eq(coordinator.getTask(CID).resultCID, RESULT, "result");
    }

    function test_result_revertsAtTheDeadline() public {
        claimed();
        toDeadline(CID);
        vm.startPrank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.DeadlinePassed.selector, CID, block.timestamp));
        coordinator.submitResult(CID, RESULT);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroCID.selector));
        coordinator.submitResult(CID, bytes32(0));
    }

    function test_submitResults_passesOverWhatOneHoldsNoMore() public {
        claimed();
        vm.startPrank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.LengthsDiffer.selector, 2, 0));
        coordinator.submitResults(pair(CID, CID), none);
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.submitResults(none, none);
        eq(coordinator.submitResults(pair(CID, GARBAGE), pair(RESULT, RESULT)), 1, "done");
    }

    // ----------------------------------------------------------------- verify

    function test_verify_paysTheWholeReward() public {
        submitted();
        toDeadline(CID);
        vm.prank(ANYBODY);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskVerified(CID, WORKER, RESULT, REWARD, FEE);
        coordinator.verifyTask(CID);
        isState(CID, ITaskCoordinator.State.Verified);
        eq(coordinator.credits(WORKER), REWARD, "worker");
        eq(coordinator.credits(TREASURY), FEE, "treasury");
        eq(lockedOf(WORKER), 0, "locked");
        eq(coordinator.getWorker(WORKER).reputation, FEE / 1 gwei, "reputation");
    }

    function test_verify_tenThousandImagesPayTenEther() public {
        // a hundred at a time is enough to see it: 100 x 0.001 ether
        register(WORKER);
        bytes32[] memory cids = batch(100);
        vm.prank(SUBMITTER);
        coordinator.submitTasks{value: 0.102 ether}(cids, REWARD);
        vm.prank(WORKER);
        coordinator.claimTasks(cids);
        vm.prank(WORKER);
        coordinator.submitResults(cids, cids);
        toDeadline(cids[0]);
        eq(coordinator.verifyTasks(cids), 100, "done");
        eq(coordinator.credits(WORKER), 0.1 ether, "the worker earns");
        eq(coordinator.credits(TREASURY), 0.002 ether, "the treasury earns");
    }

    function test_verifyTasks_refusesAnEmptyBatch() public {
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.verifyTasks(none);
    }
}
