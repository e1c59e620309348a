// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {Base} from "./Base.sol";

contract ChallengesTest is Base {
    bytes32[] private none;
    uint256[] private noNumbers;

    function test_challenge_untilTheDeadline() public {
        submitted();
        beforeDeadline(CID);
        vm.prank(CHALLENGER);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit TaskChallenged(CID, CHALLENGER, 1, RESULT, BOND, block.timestamp + 3 days, "no fire in this picture");
        coordinator.challengeTask{value: BOND + 1}(CID, "no fire in this picture");
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        eq(task.challenger, CHALLENGER, "challenger");
        eq(task.bond, BOND, "bond");
        eq(task.disputeID, 1, "dispute");
        eq(coordinator.disputedTask(1), CID, "the dispute's task");
        eq(coordinator.credits(CHALLENGER), 1, "what was too much");
    }

    function test_challenge_revertsAtTheDeadline() public {
        submitted();
        toDeadline(CID);
        vm.prank(CHALLENGER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.DeadlinePassed.selector, CID, block.timestamp));
        coordinator.challengeTask{value: BOND}(CID, "");
    }

    function test_challenge_onceAtATime() public {
        challenged();
        vm.prank(OTHER);
        revertsState(CID, ITaskCoordinator.State.Challenged);
        coordinator.challengeTask{value: BOND}(CID, "");
    }

    function test_challenge_costsTheRewardIfThatIsMore() public {
        register(WORKER);
        submit(SUBMITTER, CID, 2 ether);
        claim(WORKER, CID);
        finish(WORKER, CID, GARBAGE);
        vm.prank(CHALLENGER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ValueTooLow.selector, 2 ether, BOND));
        coordinator.challengeTask{value: BOND}(CID, "");
        challenge(CHALLENGER, CID);
        eq(coordinator.getTask(CID).bond, 2 ether, "bond");
    }

    function test_challengeTasks_paysABondForEachThatIsChallenged() public {
        submitted();
        submit(SUBMITTER, RESULT, REWARD);
        claim(WORKER, RESULT);
        finish(WORKER, RESULT, GARBAGE);
        bytes32[] memory cids = new bytes32[](4);
        (cids[0], cids[1], cids[2], cids[3]) = (CID, CID, GARBAGE, RESULT);
        vm.startPrank(CHALLENGER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ValueTooLow.selector, 2 * BOND, BOND));
        coordinator.challengeTasks{value: BOND}(cids, "");
        eq(coordinator.challengeTasks{value: 4 * BOND}(cids, ""), 2, "done");
        eq(coordinator.credits(CHALLENGER), 2 * BOND, "what was not needed");
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.challengeTasks(none, "");
    }

    function test_rule_resultStands() public {
        uint256 disputeID = challenged();
        vm.prank(ARBITRATOR);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit Ruling(ARBITRATOR, disputeID, 1);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit ChallengeResolved(CID, disputeID, 1);
        coordinator.resolveChallenge(CID, disputeID, 1);
        isState(CID, ITaskCoordinator.State.Verified);
        eq(coordinator.credits(WORKER), REWARD + BOND / 2, "worker");
        eq(coordinator.credits(TREASURY), FEE + BOND - BOND / 2, "treasury");
        eq(coordinator.credits(CHALLENGER), 0, "challenger");
        eq(stakeOf(WORKER), STAKE, "stake");
        eq(lockedOf(WORKER), 0, "locked");
    }

    function test_rule_upholdsTheChallenge() public {
        uint256 disputeID = challenged();
        ruling(disputeID, 2);
        ITaskCoordinator.TaskView memory task = coordinator.getTask(CID);
        isState(CID, ITaskCoordinator.State.Open);
        eq(task.resultCID, bytes32(0), "the result is gone");
        eq(task.challenger, address(0), "challenger");
        eq(task.bond, 0, "bond");
        eq(task.disputeID, 0, "dispute");
        eq(coordinator.credits(WORKER), 0, "the worker is not paid");
        // and another may do the task
        register(OTHER);
        claim(OTHER, CID);
    }

    function test_rule_refuses() public {
        uint256 disputeID = challenged();
        ruling(disputeID, 0);
        eq(coordinator.credits(CHALLENGER), BOND, "challenger");
        eq(coordinator.credits(WORKER), 0, "worker");
        eq(stakeOf(WORKER), STAKE, "stake");
        isState(CID, ITaskCoordinator.State.Open);
    }

    function test_rule_isTheArbitrators() public {
        uint256 disputeID = challenged();
        uint256[] memory numbers = new uint256[](1);
        vm.startPrank(OTHER);
        bytes memory refused = abi.encodeWithSelector(ITaskCoordinator.NotArbitrator.selector, OTHER);
        reverts(refused);
        coordinator.rule(disputeID, 1);
        reverts(refused);
        coordinator.resolveChallenge(CID, disputeID, 1);
        reverts(refused);
        coordinator.resolveChallenges(numbers, numbers);
    }

    function test_rule_refusesWhatItDoesNotKnow() public {
        uint256 disputeID = challenged();
        vm.startPrank(ARBITRATOR);
        reverts(abi.encodeWithSelector(ITaskCoordinator.UnknownRuling.selector, 3));
        coordinator.rule(disputeID, 3);
        reverts(abi.encodeWithSelector(ITaskCoordinator.UnknownDispute.selector, 2));
        coordinator.rule(2, 1);
        reverts(abi.encodeWithSelector(ITaskCoordinator.UnknownDispute.selector, 0));
        coordinator.rule(0, 1);
        coordinator.rule(disputeID, 1);
        reverts(abi.encodeWithSelector(ITaskCoordinator.UnknownDispute.selector, disputeID));
        coordinator.rule(disputeID, 2);
    }

    function test_rule_untilTheDeadline() public {
        uint256 disputeID = challenged();
        uint256 deadline = coordinator.getTask(CID).deadline;
        vm.warp(deadline);
        vm.prank(ARBITRATOR);
        reverts(abi.encodeWithSelector(ITaskCoordinator.DeadlinePassed.selector, CID, deadline));
        coordinator.rule(disputeID, 1);
        vm.warp(deadline - 1);
        ruling(disputeID, 1);
    }

    function test_resolveChallenges_passesOverWhatIsOver() public {
        uint256 disputeID = challenged();
        uint256[] memory disputes = new uint256[](3);
        uint256[] memory rulings = new uint256[](3);
        (disputes[0], disputes[1], disputes[2]) = (disputeID, disputeID, 7);
        (rulings[0], rulings[1], rulings[2]) = (1, 2, 1);
        vm.startPrank(ARBITRATOR);
        reverts(abi.encodeWithSelector(ITaskCoordinator.LengthsDiffer.selector, 3, 0));
        coordinator.resolveChallenges(disputes, noNumbers);
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.resolveChallenges(noNumbers, noNumbers);
        eq(coordinator.resolveChallenges(disputes, rulings), 1, "done");
    }

    function test_expireChallenges_passesOverOthers() public {
        challenged();
        toDeadline(CID);
        eq(coordinator.expireChallenges(pair(CID, CID)), 1, "done");
        reverts(abi.encodeWithSelector(ITaskCoordinator.EmptyBatch.selector));
        coordinator.expireChallenges(none);
    }

    function test_reopen_afterItsLifeOnlyRefunds() public {
        register(WORKER);
        open();
        vm.warp(block.timestamp + 7 days - 1);
        claim(WORKER, CID);
        finish(WORKER, CID, GARBAGE);
        ruling(challenge(CHALLENGER, CID), 2);
        vm.warp(block.timestamp + 1);
        vm.prank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.TaskExpired.selector, CID, block.timestamp));
        coordinator.claimTask(CID);
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        eq(coordinator.credits(SUBMITTER), REWARD + FEE, "credit");
    }
}
