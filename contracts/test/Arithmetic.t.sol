// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {TaskCoordinator} from "../src/TaskCoordinator.sol";
import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {Steps} from "./Base.sol";

/// @dev The contract with its arithmetic laid open.
contract Open is TaskCoordinator {
    constructor(Settings memory settings_)
        TaskCoordinator(address(0xA11CE0), address(0x7EA5), address(0xA4B1), settings_)
    {}

    function split(address account, uint256 amount) external {
        _split(account, amount);
    }

    function lockStake(address worker, uint256 lock) external returns (bool) {
        return _lockStake(worker, lock, true);
    }

    function slash(address worker, uint96 lock, address challenger) external returns (uint256) {
        return _slash(worker, lock, challenger);
    }

    function penalize(address worker, uint96 lock, address caller) external returns (uint256) {
        return _penalize(worker, lock, caller);
    }
}

/// @title What halmos proves for every amount (`make audit`), and forge tries at random.
/// @dev The fee is not among it: no solver at hand divides 256 bits by 10,000 within minutes. Fuzz.t.sol tries it.
contract ArithmeticTest is Steps {
    Open private open_;

    function setUp() public {
        vm.warp(1_700_000_000);
        open_ = new Open(terms());
        vm.deal(WORKER, type(uint128).max);
    }

    /// @notice Both halves together are the whole, and neither is more than a wei larger.
    function check_split_losesNothing(uint96 amount) public {
        open_.split(OTHER, amount);
        uint256 account = open_.credits(OTHER);
        uint256 rest = open_.credits(TREASURY);
        assert(account + rest == amount);
        assert(account <= rest && rest - account <= 1);
    }

    /// @notice A claim locks at least the reward or all that any claim locks, and fits its slot.
    function check_lock_fitsItsSlot(uint80 reward) public view {
        uint256 lock = open_.lockFor(reward);
        assert(lock <= 1 ether);
        assert(lock >= reward || lock == 1 ether);
    }

    /// @notice After a slash the stake still covers the other claims and what is unbonding, nothing is made or lost,
    /// and at least half the claim's lock is gone.
    function check_slash_leavesOtherLocksCovered(uint96 stake, uint96 lock, uint96 other, uint96 unbonding) public {
        vm.assume(stake >= 0.1 ether && lock >= 2);
        vm.assume(uint256(lock) + other + unbonding <= stake);
        vm.assume(unbonding > 0);
        vm.prank(WORKER);
        open_.registerWorker{value: stake}();
        open_.lockStake(WORKER, lock);
        open_.lockStake(WORKER, other);
        vm.prank(WORKER);
        open_.requestUnstake(unbonding);

        uint256 slashed = open_.slash(WORKER, lock, OTHER);

        ITaskCoordinator.WorkerView memory worker = open_.getWorker(WORKER);
        assert(worker.locked == other);
        assert(worker.stake >= worker.locked + worker.unbonding);
        assert(worker.stake + slashed == stake);
        assert(open_.credits(OTHER) + open_.credits(TREASURY) == slashed);
        assert(slashed >= lock / 2);
    }

    /// @notice A penalty takes from its own claim's lock only.
    function check_penalty_leavesOtherLocksCovered(uint96 stake, uint96 lock, uint96 other) public {
        vm.assume(stake >= 0.1 ether && uint256(lock) + other <= stake);
        vm.prank(WORKER);
        open_.registerWorker{value: stake}();
        open_.lockStake(WORKER, lock);
        open_.lockStake(WORKER, other);

        uint256 penalty = open_.penalize(WORKER, lock, OTHER);

        ITaskCoordinator.WorkerView memory worker = open_.getWorker(WORKER);
        assert(worker.locked == other);
        assert(worker.stake == stake - penalty && worker.stake >= worker.locked);
        assert(penalty <= lock);
    }

    function testFuzz_split(uint96 amount) public {
        check_split_losesNothing(amount);
    }

    function testFuzz_slash(uint96 stake, uint96 lock, uint96 other, uint96 unbonding) public {
        stake = uint96(bound(stake, 0.1 ether, type(uint96).max));
        lock = uint96(bound(lock, 2, stake / 3));
        other = uint96(bound(other, 0, stake / 3));
        unbonding = uint96(bound(unbonding, 1, stake / 3));
        check_slash_leavesOtherLocksCovered(stake, lock, other, unbonding);
    }

    function testFuzz_penalty(uint96 stake, uint96 lock, uint96 other) public {
        stake = uint96(bound(stake, 0.1 ether, type(uint96).max));
        check_penalty_leavesOtherLocksCovered(
            stake, uint96(bound(lock, 0, stake / 2)), uint96(bound(other, 0, stake / 2))
        );
    }
}
