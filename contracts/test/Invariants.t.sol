// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {Base} from "./Base.sol";
import {Handler} from "./Handler.sol";

contract InvariantsTest is Base {
    Handler private handler;

    function setUp() public override {
        super.setUp();
        handler = new Handler(coordinator);
    }

    /// @dev What forge calls at random.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @notice The contract holds what it owes, to the wei: stakes, escrow, bonds and credits.
    function invariant_holdsWhatItOwes() public view {
        uint256 owed = coordinator.credits(TREASURY);
        for (uint256 i = 0; i < handler.PEOPLE(); ++i) {
            owed += coordinator.credits(handler.person(i)) + stakeOf(handler.person(i));
        }
        for (uint256 i = 0; i < handler.CIDS(); ++i) {
            owed += owedFor(handler.task(i));
        }
        require(address(coordinator).balance >= owed, "the contract owes more than it holds");
        eq(address(coordinator).balance, owed + handler.forced(), "balance");
    }

    /// @notice What is locked of a stake is what its claims have locked, and the stake covers it.
    function invariant_locksStandBehindClaims() public view {
        for (uint256 i = 0; i < handler.PEOPLE(); ++i) {
            ITaskCoordinator.WorkerView memory worker = coordinator.getWorker(handler.person(i));
            uint256 locked = 0;
            for (uint256 k = 0; k < handler.CIDS(); ++k) {
                ITaskCoordinator.TaskView memory task = coordinator.getTask(handler.task(k));
                if (held(task.state) && task.worker == handler.person(i)) locked += task.lock;
            }
            eq(worker.locked, locked, "locked");
            require(worker.stake >= worker.locked + worker.unbonding, "the stake does not cover the locks");
        }
    }

    /// @notice Once time has passed, everybody can leave with all that is owed, whoever else does nothing.
    function afterInvariant() public {
        vm.warp(block.timestamp + 30 days);
        bytes32[] memory cids = handler.tasks();
        vm.prank(ANYBODY);
        coordinator.reclaimTasks(cids);
        coordinator.expireChallenges(cids);
        coordinator.verifyTasks(cids);
        for (uint256 i = 0; i < handler.PEOPLE(); ++i) {
            leave(handler.person(i), cids);
        }
        for (uint256 i = 0; i < handler.PEOPLE(); ++i) {
            cash(handler.person(i));
        }
        cash(ANYBODY);
        cash(TREASURY);
        eq(address(coordinator).balance, handler.forced(), "something is stuck");
    }

    function leave(address person, bytes32[] memory cids) private {
        vm.startPrank(person);
        for (uint256 k = 0; k < cids.length; ++k) {
            uint256 last = coordinator.getTask(cids[k]).generation + 1;
            for (uint256 generation = 0; generation <= last; ++generation) {
                (uint256 reward,) = coordinator.shareOf(cids[k], generation, person);
                ITaskCoordinator.State state = coordinator.getTaskAt(cids[k], generation).state;
                require(!held(state), "a task is still held");
                if (reward != 0 && state == ITaskCoordinator.State.Open) coordinator.refund(cids[k], generation);
            }
        }
        ITaskCoordinator.WorkerView memory worker = coordinator.getWorker(person);
        eq(worker.locked, 0, "a lock is left");
        if (worker.stake != worker.unbonding) coordinator.requestUnstake(worker.stake - worker.unbonding);
        vm.warp(block.timestamp + 4 days);
        if (worker.stake != 0) coordinator.completeUnstake();
        vm.stopPrank();
    }

    function cash(address account) private {
        if (coordinator.credits(account) == 0) return;
        vm.prank(account);
        coordinator.withdraw();
    }

    function owedFor(bytes32 cid) private view returns (uint256 owed) {
        uint256 last = coordinator.getTask(cid).generation + 1;
        for (uint256 generation = 0; generation <= last; ++generation) {
            ITaskCoordinator.TaskView memory task = coordinator.getTaskAt(cid, generation);
            if (task.state == ITaskCoordinator.State.Verified) continue;
            owed += task.reward + task.fee + task.bond;
        }
    }

    function held(ITaskCoordinator.State state) private pure returns (bool) {
        return state == ITaskCoordinator.State.Claimed || state == ITaskCoordinator.State.Submitted
            || state == ITaskCoordinator.State.Challenged;
    }
}
