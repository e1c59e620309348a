// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {Base} from "./Base.sol";

/// @dev Any amounts and times.
contract FuzzTest is Base {
    function testFuzz_fee_isRoundedUp(uint256 reward, uint256 basisPoints) public {
        basisPoints = bound(basisPoints, 0, 500);
        reward = bound(reward, 0, type(uint80).max);
        vm.prank(OWNER);
        coordinator.setFee(basisPoints);
        uint256 fee = coordinator.costOf(reward) - reward;
        require(fee * 10_000 >= reward * basisPoints, "less than the share");
        require(fee * 10_000 < reward * basisPoints + 10_000, "more than a wei beyond it");
    }

    function testFuzz_shares_areTakenBackAlone(uint256 first, uint256 second, uint256 third) public {
        first = bound(first, 0.0001 ether, 100 ether);
        second = bound(second, 0.0001 ether, 100 ether);
        third = bound(third, 0.0001 ether, 100 ether);
        submit(SUBMITTER, CID, first);
        vm.prank(OWNER);
        coordinator.setFee(500);
        submit(OTHER, CID, second);
        vm.prank(OWNER);
        coordinator.setFee(0);
        submit(SUBMITTER, CID, third);
        vm.prank(SUBMITTER);
        coordinator.cancelTask(CID);
        vm.prank(OTHER);
        coordinator.cancelTask(CID);
        vm.prank(SUBMITTER);
        coordinator.withdraw();
        vm.prank(OTHER);
        coordinator.withdraw();
        eq(SUBMITTER.balance, 1000 ether, "the first's");
        eq(OTHER.balance, 1000 ether, "the second's");
        eq(address(coordinator).balance, 0, "the contract's");
    }

    function testFuzz_life_paysWhatWasPromised(uint256 reward, uint256 late, bool isChallenged) public {
        reward = bound(reward, 0.0001 ether, 900 ether);
        register(WORKER);
        uint256 cost = coordinator.costOf(reward);
        submit(SUBMITTER, CID, reward);
        claim(WORKER, CID);
        uint256 lock = lockedOf(WORKER);
        eq(lock, reward * 10 < 1 ether ? reward * 10 : 1 ether, "lock");
        finish(WORKER, CID, RESULT);
        uint256 bond = 0;
        if (isChallenged) {
            bond = coordinator.bondFor(reward);
            ruling(challenge(CHALLENGER, CID), 1);
        } else {
            vm.warp(coordinator.getTask(CID).deadline + bound(late, 0, 365 days));
            coordinator.verifyTask(CID);
        }
        eq(coordinator.credits(WORKER), reward + bond / 2, "worker");
        eq(coordinator.credits(TREASURY), cost - reward + bond - bond / 2, "treasury");
        eq(address(coordinator).balance, cost + STAKE + bond, "balance");
    }

    function testFuzz_slash_isHalfOfWhatStandsBehindNothingElse(uint256 stake, uint256 other, uint256 unbonding)
        public
    {
        stake = bound(stake, 0.1 ether, 500 ether);
        vm.prank(WORKER);
        coordinator.registerWorker{value: stake}();
        open();
        claim(WORKER, CID);
        finish(WORKER, CID, GARBAGE);
        other = bound(other, 0.0001 ether, (stake - LOCK) / 10);
        submit(SUBMITTER, RESULT, other);
        claim(WORKER, RESULT);
        uint256 otherLock = coordinator.lockFor(other);
        uint256 free = stake - LOCK - otherLock;
        unbonding = bound(unbonding, 0, free);
        vm.prank(WORKER);
        if (unbonding != 0) coordinator.requestUnstake(unbonding);
        else coordinator.topUpStake();

        ruling(challenge(CHALLENGER, CID), 2);

        uint256 slashed = (stake - otherLock) / 2;
        ITaskCoordinator.WorkerView memory worker = coordinator.getWorker(WORKER);
        eq(worker.stake, stake - slashed, "stake");
        eq(worker.locked, otherLock, "the other claim's lock");
        require(worker.unbonding <= unbonding, "unbonding");
        require(worker.stake >= worker.locked + worker.unbonding, "the stake covers it");
        eq(coordinator.credits(CHALLENGER), BOND + slashed / 2, "challenger");
        eq(coordinator.credits(TREASURY), slashed - slashed / 2, "treasury");
    }

    function testFuzz_selfChallenge_neverPays(uint256 stake, uint256 reward, uint256 choice) public {
        stake = bound(stake, 1 ether, 400 ether);
        reward = bound(reward, 0.0001 ether, 100 ether);
        choice = bound(choice, 0, 2);
        vm.startPrank(WORKER);
        coordinator.registerWorker{value: stake}();
        uint256 cost = coordinator.costOf(reward);
        // submitter, worker and challenger are one
        coordinator.submitTask{value: cost}(CID, reward);
        coordinator.claimTask(CID);
        coordinator.submitResult(CID, GARBAGE);
        coordinator.challengeTask{value: coordinator.bondFor(reward)}(CID, "");
        vm.stopPrank();
        ruling(1, choice);
        uint256 left = WORKER.balance + coordinator.credits(WORKER) + stakeOf(WORKER);
        if (state(CID) == ITaskCoordinator.State.Open) left += cost;
        if (choice == 0) eq(left, 1000 ether, "without a ruling nothing moves");
        else require(left < 1000 ether, "it paid");
    }

    function testFuzz_unbonding_outlastsEveryClaim(uint256 wait, uint256 used) public {
        // whatever a worker does, its stake is liable until the last ruling on what it had claimed before
        claimed();
        vm.prank(WORKER);
        coordinator.requestUnstake(STAKE - LOCK);
        uint256 ends = coordinator.getWorker(WORKER).unbondingEnds;
        vm.warp(block.timestamp + bound(wait, 0, 1 hours - 1));
        finish(WORKER, CID, GARBAGE);
        vm.warp(block.timestamp + bound(used, 0, 1 hours - 1));
        challenge(CHALLENGER, CID);
        require(coordinator.getTask(CID).deadline <= ends, "it could leave before the ruling");
        beforeDeadline(CID);
        ruling(1, 2);
        eq(stakeOf(WORKER), STAKE / 2, "stake");
    }
}
