// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {Base} from "./Base.sol";

contract StakesTest is Base {
    function test_register_stakesAllThatIsSent() public {
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit WorkerRegistered(WORKER, STAKE);
        register(WORKER);
        eq(stakeOf(WORKER), STAKE, "stake");
    }

    function test_register_revertsBelowTheMinimum() public {
        vm.startPrank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.StakeTooLow.selector, 0.1 ether, 0.1 ether - 1));
        coordinator.registerWorker{value: 0.1 ether - 1}();
        coordinator.registerWorker{value: 0.1 ether}();
        reverts(abi.encodeWithSelector(ITaskCoordinator.AlreadyRegistered.selector, WORKER));
        coordinator.registerWorker{value: STAKE}();
    }

    function test_register_revertsBeyondItsSlot() public {
        vm.deal(WORKER, 2 ** 97);
        vm.startPrank(WORKER);
        bytes4 overflow = SafeCast.SafeCastOverflowedUintDowncast.selector;
        reverts(abi.encodeWithSelector(overflow, 96, 2 ** 96));
        coordinator.registerWorker{value: 2 ** 96}();
        coordinator.registerWorker{value: 2 ** 96 - 1}();
        reverts(abi.encodeWithSelector(overflow, 96, 2 ** 96));
        coordinator.topUpStake{value: 1}();
    }

    function test_register_againAfterLeaving() public {
        register(WORKER);
        vm.startPrank(WORKER);
        coordinator.requestUnstake(STAKE);
        vm.warp(block.timestamp + 4 days);
        coordinator.completeUnstake();
        vm.stopPrank();
        register(WORKER);
        eq(stakeOf(WORKER), STAKE, "stake");
    }

    function test_topUp_wantsARegisteredWorker() public {
        vm.prank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NotRegistered.selector, WORKER));
        coordinator.topUpStake{value: STAKE}();
        register(WORKER);
        vm.prank(WORKER);
        coordinator.topUpStake{value: STAKE}();
        eq(stakeOf(WORKER), 2 * STAKE, "stake");
    }

    function test_unstake_takesTheUnbondingPeriod() public {
        register(WORKER);
        vm.startPrank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NothingUnbonding.selector, WORKER));
        coordinator.completeUnstake();
        reverts(abi.encodeWithSelector(ITaskCoordinator.StakeNotFree.selector, 0, STAKE));
        coordinator.requestUnstake(0);
        coordinator.requestUnstake(0.4 ether);
        vm.warp(block.timestamp + 1 days);
        coordinator.requestUnstake(0.1 ether);
        ITaskCoordinator.WorkerView memory worker = coordinator.getWorker(WORKER);
        eq(worker.unbonding, 0.5 ether, "unbonding");
        eq(worker.unbondingEnds, block.timestamp + 4 days, "the period begins anew");
        eq(worker.locked, 0, "nothing is locked");
        vm.warp(worker.unbondingEnds - 1);
        reverts(abi.encodeWithSelector(ITaskCoordinator.StillUnbonding.selector, worker.unbondingEnds));
        coordinator.completeUnstake();
        vm.warp(worker.unbondingEnds);
        coordinator.completeUnstake();
        eq(coordinator.credits(WORKER), 0.5 ether, "credit");
        eq(stakeOf(WORKER), 0.5 ether, "stake");
    }

    function test_unstake_unbondingStakeClaimsNothing() public {
        register(WORKER);
        open();
        vm.startPrank(WORKER);
        coordinator.requestUnstake(STAKE - LOCK + 1);
        reverts(abi.encodeWithSelector(ITaskCoordinator.StakeNotFree.selector, LOCK, LOCK - 1));
        coordinator.claimTask(CID);
    }

    function test_slash_halvesTheWholeStakeOfASingleClaim() public {
        uint256 disputeID = challenged();
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit WorkerSlashed(WORKER, CID, STAKE / 2);
        ruling(disputeID, 2);
        eq(stakeOf(WORKER), STAKE / 2, "stake");
        eq(lockedOf(WORKER), 0, "locked");
        eq(coordinator.credits(CHALLENGER), BOND + STAKE / 4, "challenger");
        eq(coordinator.credits(TREASURY), STAKE / 4, "treasury");
    }

    function test_slash_leavesTheLocksOfOtherClaims() public {
        challenged();
        submit(SUBMITTER, keccak256("big"), 0.099 ether);
        claim(WORKER, keccak256("big"));
        eq(lockedOf(WORKER), STAKE, "all is locked");
        ruling(1, 2);
        eq(stakeOf(WORKER), STAKE - LOCK / 2, "half the one lock");
        eq(lockedOf(WORKER), 0.99 ether, "the other lock");
    }

    function test_slash_takesUnbondingStakeLast() public {
        challenged();
        vm.prank(WORKER);
        coordinator.requestUnstake(0.2 ether);
        ruling(1, 2);
        eq(coordinator.getWorker(WORKER).unbonding, 0.2 ether, "what is left covers it");
        eq(stakeOf(WORKER), STAKE / 2, "stake");
    }

    function test_slash_halvesReputation() public {
        verified();
        submit(SUBMITTER, CID, REWARD);
        claim(WORKER, CID);
        finish(WORKER, CID, RESULT);
        ruling(challenge(CHALLENGER, CID), 2);
        eq(coordinator.getWorker(WORKER).reputation, FEE / 1 gwei / 2, "reputation");
    }

    function test_reputation_staysAtItsLimit() public {
        submitted();
        // the worker's slot: total and locked below, reputation in the highest 64 bits
        bytes32 slot = stakeSlot(WORKER);
        uint256 packed = uint256(vm.load(address(coordinator), slot));
        eq(packed & type(uint96).max, STAKE, "the slot's layout");
        vm.store(address(coordinator), slot, bytes32(packed | (uint256(type(uint64).max) << 192)));
        eq(coordinator.getWorker(WORKER).reputation, type(uint64).max, "the slot's layout");
        toDeadline(CID);
        coordinator.verifyTask(CID);
        eq(coordinator.getWorker(WORKER).reputation, type(uint64).max, "reputation");
        eq(coordinator.credits(WORKER), REWARD, "paid nevertheless");
    }

    function test_withdraw_givesAllOnce() public {
        verified();
        vm.startPrank(WORKER);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit Withdrawn(WORKER, WORKER, REWARD);
        coordinator.withdraw();
        eq(WORKER.balance, 1000 ether - STAKE + REWARD, "balance");
        reverts(abi.encodeWithSelector(ITaskCoordinator.NothingToWithdraw.selector, WORKER));
        coordinator.withdraw();
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroAddress.selector));
        coordinator.withdrawTo(payable(address(0)));
    }

    function test_withdraw_toItselfFails() public {
        verified();
        vm.prank(WORKER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.WithdrawFailed.selector, address(coordinator)));
        coordinator.withdrawTo(payable(address(coordinator)));
    }

    /// @dev The mapping of stakes is found by looking for the slot that holds the stake.
    function stakeSlot(address worker) private view returns (bytes32 slot) {
        for (uint256 i = 0; i < 32; ++i) {
            slot = keccak256(abi.encode(worker, i));
            if (uint96(uint256(vm.load(address(coordinator), slot))) == STAKE) return slot;
        }
        revert("no slot holds the stake");
    }
}
