// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ITaskCoordinator} from "./ITaskCoordinator.sol";
import {Terms} from "./Terms.sol";

/// @title Stakes, and the credits as which all money leaves.
/// @dev The only call to another address is in `withdrawTo`, after all it writes: a receiver that
/// reverts or calls back harms nobody but itself.
abstract contract Stakes is Terms {
    using SafeCast for uint256;

    /// @dev A worker that lets a claim expire loses its lock divided by this.
    uint256 private constant NO_SHOW_DIVISOR = 10;

    /// @dev One slot. `locked` is what stands behind claims and what is unbonding: the rest is free.
    struct Stake {
        uint96 total;
        uint96 locked;
        uint64 reputation;
    }

    struct Unbonding {
        uint96 amount;
        uint40 endsAt;
    }

    mapping(address worker => Stake) private _stakes;
    mapping(address worker => Unbonding) private _unbonding;
    /// @inheritdoc ITaskCoordinator
    mapping(address account => uint256 amount) public credits;

    // ---------------------------------------------------------------- workers

    /// @inheritdoc ITaskCoordinator
    function registerWorker() external payable whenNotPaused {
        if (_stakes[msg.sender].total != 0) revert AlreadyRegistered(msg.sender);
        if (msg.value < MIN_STAKE) revert StakeTooLow(MIN_STAKE, msg.value);
        _stakes[msg.sender].total = msg.value.toUint96();
        emit WorkerRegistered(msg.sender, msg.value);
    }

    /// @inheritdoc ITaskCoordinator
    function topUpStake() external payable whenNotPaused {
        uint256 stake = _stakes[msg.sender].total;
        if (stake == 0) revert NotRegistered(msg.sender);
        stake += msg.value;
        _stakes[msg.sender].total = stake.toUint96();
        emit StakeAdded(msg.sender, msg.value, stake);
    }

    /// @inheritdoc ITaskCoordinator
    function requestUnstake(uint256 amount) external {
        Stake storage stake = _stakes[msg.sender];
        Unbonding storage unbonding = _unbonding[msg.sender];
        uint256 free = stake.total - stake.locked;
        if (amount == 0 || amount > free) revert StakeNotFree(amount, free);
        stake.locked += uint96(amount);
        unbonding.amount += uint96(amount);
        unbonding.endsAt = uint40(block.timestamp + UNBONDING_PERIOD);
        emit UnstakeRequested(msg.sender, amount, unbonding.endsAt);
    }

    /// @inheritdoc ITaskCoordinator
    function completeUnstake() external {
        Stake storage stake = _stakes[msg.sender];
        Unbonding memory unbonding = _unbonding[msg.sender];
        // slither-disable-next-line incorrect-equality (of our own books, not of a balance)
        if (unbonding.amount == 0) revert NothingUnbonding(msg.sender);
        if (block.timestamp < unbonding.endsAt) revert StillUnbonding(unbonding.endsAt);
        delete _unbonding[msg.sender];
        stake.total -= unbonding.amount;
        stake.locked -= unbonding.amount;
        credits[msg.sender] += unbonding.amount;
        emit Unstaked(msg.sender, unbonding.amount);
    }

    /// @inheritdoc ITaskCoordinator
    function getWorker(address worker) external view returns (WorkerView memory) {
        Stake memory stake = _stakes[worker];
        Unbonding memory unbonding = _unbonding[worker];
        return WorkerView({
            stake: stake.total,
            locked: stake.locked - unbonding.amount,
            unbonding: unbonding.amount,
            unbondingEnds: unbonding.endsAt,
            reputation: stake.reputation
        });
    }

    // ------------------------------------------------------------------ money

    /// @inheritdoc ITaskCoordinator
    function withdraw() external {
        withdrawTo(payable(msg.sender));
    }

    /// @inheritdoc ITaskCoordinator
    function withdrawTo(address payable to) public {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = credits[msg.sender];
        // slither-disable-next-line incorrect-equality (of our own books, not of a balance)
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        credits[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        // slither-disable-next-line low-level-calls (whatever the receiver is, it may use all the gas)
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert WithdrawFailed(to);
    }

    // ----------------------------------------------------------------- inside

    /// @dev Put stake behind a claim. False if the worker has too little, all in all or free.
    function _lockStake(address worker, uint256 lock, bool strict) internal returns (bool) {
        Stake memory stake = _stakes[worker];
        uint256 free = stake.total - stake.locked;
        if (stake.total < MIN_STAKE || free < lock) {
            if (!strict) return false;
            if (stake.total < MIN_STAKE) revert StakeTooLow(MIN_STAKE, stake.total);
            revert StakeNotFree(lock, free);
        }
        stake.locked += uint96(lock);
        _stakes[worker] = stake;
        return true;
    }

    /// @dev The claim is over without blame.
    function _releaseStake(address worker, uint96 lock) internal {
        _stakes[worker].locked -= lock;
    }

    /// @dev The claim is over and the worker is paid.
    function _releaseAndPay(address worker, uint96 lock, uint256 reward, uint256 fee) internal {
        Stake memory stake = _stakes[worker];
        stake.locked -= lock;
        stake.reputation = uint64(Math.min(type(uint64).max, stake.reputation + fee / 1 gwei));
        _stakes[worker] = stake;
        credits[worker] += reward;
        credits[treasury] += fee;
    }

    /// @dev The claim is over because its worker let the deadline pass.
    function _penalize(address worker, uint96 lock, address caller) internal returns (uint256 penalty) {
        penalty = lock / NO_SHOW_DIVISOR;
        Stake memory stake = _stakes[worker];
        stake.locked -= lock;
        stake.total -= uint96(penalty);
        _stakes[worker] = stake;
        _split(caller, penalty);
    }

    /// @dev The claim is over because its result was wrong. Takes half of all stake that does not stand behind
    /// another claim: this claim's lock, what is free and what is unbonding. So each claim's own lock is always
    /// there to be slashed.
    function _slash(address worker, uint96 lock, address challenger) internal returns (uint256 slashed) {
        Stake memory stake = _stakes[worker];
        uint256 unbonding = _unbonding[worker].amount;
        uint256 others = stake.locked - unbonding - lock;
        uint256 liable = stake.total - others;
        slashed = liable / 2;
        if (unbonding > liable - slashed) {
            unbonding = liable - slashed;
            _unbonding[worker].amount = uint96(unbonding);
        }
        stake.total -= uint96(slashed);
        stake.locked = uint96(others + unbonding);
        stake.reputation /= 2;
        _stakes[worker] = stake;
        _split(challenger, slashed);
    }

    /// @dev Half to `account`, the rest to the treasury: whoever loses the whole and is also `account` loses half.
    function _split(address account, uint256 amount) internal {
        uint256 half = amount / 2;
        credits[account] += half;
        credits[treasury] += amount - half;
    }

    /// @dev What was sent covers `required`; the rest becomes credit.
    function _settleValue(uint256 required) internal {
        if (msg.value < required) revert ValueTooLow(required, msg.value);
        if (msg.value > required) credits[msg.sender] += msg.value - required;
    }
}
