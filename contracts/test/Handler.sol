// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {TaskCoordinator} from "../src/TaskCoordinator.sol";
import {Steps} from "./Base.sol";

/// @dev Sends ether where nobody can refuse it.
contract Force {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

/// @dev What the invariant suite calls at random: each of five people may be submitter, worker and
/// challenger of six tasks, in any order and at any time.
contract Handler is Steps {
    uint256 public constant PEOPLE = 5;
    uint256 public constant CIDS = 6;
    /// @dev Ether that came without a purpose.
    uint256 public forced;

    constructor(TaskCoordinator coordinator_) {
        coordinator = coordinator_;
        for (uint256 i = 0; i < PEOPLE; ++i) {
            vm.deal(person(i), 1_000_000 ether);
        }
    }

    function person(uint256 i) public pure returns (address) {
        return address(uint160(0xBEEF00 + i % PEOPLE));
    }

    function task(uint256 i) public pure returns (bytes32) {
        return keccak256(abi.encode("task", i % CIDS));
    }

    function tasks() public pure returns (bytes32[] memory cids) {
        cids = new bytes32[](CIDS);
        for (uint256 i = 0; i < CIDS; ++i) {
            cids[i] = task(i);
        }
    }

    // ---------------------------------------------------------------- workers

    function stake(uint256 who, uint256 amount) external {
        address worker = person(who);
        amount = bound(amount, 0.1 ether, 30 ether);
        bool known = stakeOf(worker) != 0;
        vm.prank(worker);
        if (known) coordinator.topUpStake{value: amount}();
        else coordinator.registerWorker{value: amount}();
    }

    function unstake(uint256 who, uint256 amount) external {
        address worker = person(who);
        ITaskCoordinator.WorkerView memory seen = coordinator.getWorker(worker);
        uint256 free = seen.stake - seen.locked - seen.unbonding;
        if (free == 0) return;
        vm.prank(worker);
        coordinator.requestUnstake(bound(amount, 1, free));
    }

    function completeUnstake(uint256 who) external {
        vm.prank(person(who));
        coordinator.completeUnstake();
    }

    function withdraw(uint256 who) external {
        vm.prank(person(who));
        coordinator.withdraw();
    }

    // ------------------------------------------------------------------ tasks

    function submitTask(uint256 who, uint256 what, uint256 reward, uint256 tip) external {
        reward = bound(reward, 0.0001 ether, 2 ether);
        uint256 value = coordinator.costOf(reward) + tip % 3;
        vm.prank(person(who));
        coordinator.submitTask{value: value}(task(what), reward);
    }

    function submitTasks(uint256 who, uint256 first, uint256 second, uint256 reward) external {
        reward = bound(reward, 0.0001 ether, 0.01 ether);
        uint256 value = coordinator.costOf(reward) * 2;
        vm.prank(person(who));
        coordinator.submitTasks{value: value}(pair(task(first), task(second)), reward);
    }

    function cancel(uint256 who, uint256 what) external {
        vm.prank(person(who));
        coordinator.cancelTask(task(what));
    }

    function refund(uint256 who, uint256 what, uint256 generation) external {
        generation %= coordinator.getTask(task(what)).generation + 2;
        vm.prank(person(who));
        coordinator.refund(task(what), generation);
    }

    function claimOne(uint256 who, uint256 what) external {
        vm.prank(person(who));
        coordinator.claimTask(task(what));
    }

    function claimAll(uint256 who) external {
        vm.prank(person(who));
        coordinator.claimTasks(tasks());
    }

    /// @dev The next step of a task's life, by whoever may take it.
    function advance(uint256 who, uint256 what, uint256 choice) external {
        bytes32 cid = task(what);
        ITaskCoordinator.TaskView memory seen = coordinator.getTask(cid);
        if (seen.state == ITaskCoordinator.State.Open) {
            claim(person(who), cid);
        } else if (seen.state == ITaskCoordinator.State.Claimed) {
            if (block.timestamp < seen.deadline) finish(seen.worker, cid, RESULT);
            else reclaim(who, what);
        } else if (seen.state == ITaskCoordinator.State.Submitted) {
            if (choice % 2 == 0) {
                if (block.timestamp < seen.deadline) vm.warp(seen.deadline);
                coordinator.verifyTask(cid);
            } else {
                challenge(person(who), cid);
            }
        } else if (seen.state == ITaskCoordinator.State.Challenged) {
            if (block.timestamp < seen.deadline) ruling(seen.disputeID, choice % 3);
            else coordinator.expireChallenge(cid);
        }
    }

    function reclaim(uint256 who, uint256 what) public {
        vm.prank(person(who));
        coordinator.reclaimTask(task(what));
    }

    function verifyAll() external {
        coordinator.verifyTasks(tasks());
    }

    function challengeAll(uint256 who) external {
        vm.prank(person(who));
        coordinator.challengeTasks{value: 20 ether}(tasks(), "all wrong");
    }

    function expireAll(uint256 who) external {
        coordinator.expireChallenges(tasks());
        vm.prank(person(who));
        coordinator.reclaimTasks(tasks());
    }

    // ------------------------------------------------------------------ world

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, time % 16 == 0 ? 8 days : 2 hours));
    }

    function govern(uint256 choice, uint256 fee) external {
        vm.startPrank(OWNER);
        if (coordinator.paused()) coordinator.unpause();
        else if (choice % 16 == 0) coordinator.pause();
        else if (choice % 2 == 0) coordinator.setFee(fee % 501);
        else coordinator.setTreasury(choice % 4 == 1 ? TREASURY : person(fee));
        vm.stopPrank();
    }

    function force(uint256 amount) external {
        amount = bound(amount, 1, 1 ether);
        vm.deal(address(this), amount);
        forced += amount;
        new Force{value: amount}(payable(address(coordinator)));
    }
}
