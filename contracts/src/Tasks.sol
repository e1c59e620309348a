// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ITaskCoordinator} from "./ITaskCoordinator.sol";
import {Stakes} from "./Stakes.sol";

/// @title Tasks, from submission to payment.
/// @dev A cid may be bought again and again. Each purchase is a generation with a record of its own:
/// the first in `_tasks`, so that the usual case reads one slot, later ones in `_later`. The current
/// one's number stands in the first one's head. Who submits while the current one is held waits in the
/// one after it, with money that no claim in progress can earn: its lock was not measured for it.
abstract contract Tasks is Stakes {
    using SafeCast for uint256;

    /// @dev One slot: what each step of a task's life reads and writes.
    struct Head {
        State state;
        uint16 generation; // the current one; kept in the first generation's head only
        uint80 reward;
        uint72 fee;
        uint40 expiresAt;
        uint40 deadline;
    }

    struct Share {
        uint128 reward;
        uint128 fee;
    }

    struct Task {
        Head head;
        address worker;
        uint96 lock;
        bytes32 resultCID;
        address challenger;
        uint96 bond;
        uint256 disputeID;
        mapping(address submitter => Share) shares;
    }

    mapping(bytes32 taskCID => Task) private _tasks;
    mapping(bytes32 taskCID => mapping(uint256 generation => Task)) private _later;

    /// @inheritdoc ITaskCoordinator
    function submitTask(bytes32 taskCID, uint256 reward) external payable whenNotPaused {
        uint256 fee = _feeOf(reward);
        _submit(taskCID, reward, fee);
        _settleValue(reward + fee);
    }

    /// @inheritdoc ITaskCoordinator
    function submitTasks(bytes32[] calldata taskCIDs, uint256 rewardEach) external payable whenNotPaused {
        _checkBatch(taskCIDs.length);
        uint256 fee = _feeOf(rewardEach);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            _submit(taskCIDs[i], rewardEach, fee);
        }
        _settleValue((rewardEach + fee) * taskCIDs.length);
    }

    /// @inheritdoc ITaskCoordinator
    function cancelTask(bytes32 taskCID) external {
        _cancel(taskCID, true);
    }

    /// @inheritdoc ITaskCoordinator
    function cancelTasks(bytes32[] calldata taskCIDs) external returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_cancel(taskCIDs[i], false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function refund(bytes32 taskCID, uint256 generation) external {
        Task storage task = _record(taskCID, generation);
        State state = task.head.state;
        if (task.shares[msg.sender].reward == 0) revert NoShare(taskCID, msg.sender);
        if (state != State.Open) revert WrongState(taskCID, state);
        _refundShare(taskCID, generation, task);
    }

    /// @inheritdoc ITaskCoordinator
    function claimTask(bytes32 taskCID) external whenNotPaused {
        _claim(taskCID, 0, true);
    }

    /// @inheritdoc ITaskCoordinator
    function claimTaskFor(bytes32 taskCID, uint256 minReward) external whenNotPaused {
        _claim(taskCID, minReward, true);
    }

    /// @inheritdoc ITaskCoordinator
    function claimTasks(bytes32[] calldata taskCIDs) external whenNotPaused returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_claim(taskCIDs[i], 0, false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function reclaimTask(bytes32 taskCID) external {
        _reclaim(taskCID, true);
    }

    /// @inheritdoc ITaskCoordinator
    function reclaimTasks(bytes32[] calldata taskCIDs) external returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_reclaim(taskCIDs[i], false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function submitResult(bytes32 taskCID, bytes32 resultCID) external {
        _submitResult(taskCID, resultCID, true);
    }

    /// @inheritdoc ITaskCoordinator
    function submitResults(bytes32[] calldata taskCIDs, bytes32[] calldata resultCIDs) external returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        if (taskCIDs.length != resultCIDs.length) revert LengthsDiffer(taskCIDs.length, resultCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_submitResult(taskCIDs[i], resultCIDs[i], false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function verifyTask(bytes32 taskCID) external {
        _verify(taskCID, true);
    }

    /// @inheritdoc ITaskCoordinator
    function verifyTasks(bytes32[] calldata taskCIDs) external returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_verify(taskCIDs[i], false)) ++done;
        }
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ITaskCoordinator
    function getTask(bytes32 taskCID) external view returns (TaskView memory) {
        return getTaskAt(taskCID, _tasks[taskCID].head.generation);
    }

    /// @inheritdoc ITaskCoordinator
    function getTaskAt(bytes32 taskCID, uint256 generation) public view returns (TaskView memory) {
        Task storage task = _record(taskCID, generation);
        Head memory head = task.head;
        return TaskView({
            state: head.state,
            generation: generation,
            reward: head.reward,
            fee: head.fee,
            expiresAt: head.expiresAt,
            deadline: head.deadline,
            worker: task.worker,
            lock: task.lock,
            resultCID: task.resultCID,
            challenger: task.challenger,
            bond: task.bond,
            disputeID: task.disputeID
        });
    }

    /// @inheritdoc ITaskCoordinator
    function shareOf(bytes32 taskCID, uint256 generation, address submitter)
        external
        view
        returns (uint256 reward, uint256 fee)
    {
        Share storage share = _record(taskCID, generation).shares[submitter];
        return (share.reward, share.fee);
    }

    // ----------------------------------------------------------------- inside

    function _submit(bytes32 taskCID, uint256 reward, uint256 fee) private {
        if (taskCID == bytes32(0)) revert ZeroCID();
        if (reward < MIN_REWARD) revert RewardTooLow(MIN_REWARD, reward);
        (Task storage task, Head memory head, uint256 generation) = _purchase(taskCID);
        if (head.state == State.None || block.timestamp >= head.expiresAt) {
            head.state = State.Open;
            head.expiresAt = uint40(block.timestamp + TASK_LIFETIME);
        }
        head.reward = SafeCast.toUint80(head.reward + reward);
        head.fee = SafeCast.toUint72(head.fee + fee);
        task.head = head;
        Share storage share = task.shares[msg.sender];
        share.reward += uint128(reward);
        share.fee += uint128(fee);
        emit TaskSubmitted(taskCID, msg.sender, generation, reward, fee, head.expiresAt);
    }

    /// @dev The generation that a submission joins: the current one while it is open, the one after it
    /// while it is held, a new one after it is over.
    function _purchase(bytes32 taskCID) private returns (Task storage task, Head memory head, uint256 generation) {
        bool held = false;
        (task, head, generation) = _current(taskCID);
        uint256 current = generation;
        while (!held && head.state != State.None && !_claimable(head)) {
            held = _held(head.state);
            task = _later[taskCID][++generation];
            head = task.head;
        }
        if (generation != current && !held) _tasks[taskCID].head.generation = generation.toUint16();
    }

    function _cancel(bytes32 taskCID, bool strict) private returns (bool) {
        uint256 generation = _tasks[taskCID].head.generation;
        Task storage task = _record(taskCID, generation);
        Task storage waiting = _later[taskCID][generation + 1];
        State state = task.head.state;
        bool shares = task.shares[msg.sender].reward != 0;
        bool open = shares && state == State.Open;
        bool waits = waiting.shares[msg.sender].reward != 0;
        if (!open && !waits) {
            if (!strict) return _skip(taskCID);
            if (shares) revert WrongState(taskCID, state);
            revert NoShare(taskCID, msg.sender);
        }
        if (open) _refundShare(taskCID, generation, task);
        if (waits) _refundShare(taskCID, generation + 1, waiting);
        return true;
    }

    function _refundShare(bytes32 taskCID, uint256 generation, Task storage task) private {
        Share memory share = task.shares[msg.sender];
        delete task.shares[msg.sender];
        Head memory head = task.head;
        head.reward -= uint80(share.reward);
        head.fee -= uint72(share.fee);
        if (head.reward == 0) head.state = State.None;
        task.head = head;
        credits[msg.sender] += uint256(share.reward) + share.fee;
        emit ShareRefunded(taskCID, msg.sender, generation, share.reward, share.fee);
    }

    function _claim(bytes32 taskCID, uint256 minReward, bool strict) private returns (bool) {
        (Task storage task, Head memory head, uint256 generation) = _current(taskCID);
        if (!_claimable(head)) {
            Task storage waiting = _later[taskCID][generation + 1];
            Head memory next = waiting.head;
            if (_held(head.state) || !_claimable(next)) {
                if (!strict) return _skip(taskCID);
                if (head.state == State.Open) revert TaskExpired(taskCID, head.expiresAt);
                revert WrongState(taskCID, head.state);
            }
            (task, head) = (waiting, next);
            _tasks[taskCID].head.generation = (++generation).toUint16();
        }
        if (head.reward < minReward) revert RewardTooLow(minReward, head.reward);
        uint256 lock = lockFor(head.reward);
        if (!_lockStake(msg.sender, lock, strict)) return _skip(taskCID);
        head.state = State.Claimed;
        head.deadline = uint40(block.timestamp + CLAIM_PERIOD);
        task.head = head;
        (task.worker, task.lock) = (msg.sender, uint96(lock));
        emit TaskClaimed(taskCID, msg.sender, generation, head.reward, lock, head.deadline);
        return true;
    }

    function _reclaim(bytes32 taskCID, bool strict) private returns (bool) {
        (Task storage task, Head memory head, uint256 generation) = _current(taskCID);
        if (!_due(taskCID, head, State.Claimed, strict)) return false;
        address worker = task.worker;
        uint256 penalty = _penalize(worker, task.lock, msg.sender);
        emit ClaimExpired(taskCID, worker, msg.sender, penalty);
        _reopen(taskCID, generation, task, head);
        return true;
    }

    function _submitResult(bytes32 taskCID, bytes32 resultCID, bool strict) private returns (bool) {
        if (resultCID == bytes32(0)) revert ZeroCID();
        (Task storage task, Head memory head,) = _current(taskCID);
        if (head.state != State.Claimed || task.worker != msg.sender || block.timestamp >= head.deadline) {
            if (!strict) return _skip(taskCID);
            if (head.state != State.Claimed) revert WrongState(taskCID, head.state);
            if (task.worker != msg.sender) revert NotClaimant(taskCID, task.worker);
            revert DeadlinePassed(taskCID, head.deadline);
        }
        head.state = State.Submitted;
        head.deadline = uint40(block.timestamp + CHALLENGE_PERIOD);
        task.head = head;
        task.resultCID = resultCID;
        emit ResultSubmitted(taskCID, msg.sender, resultCID, head.deadline);
        return true;
    }

    function _verify(bytes32 taskCID, bool strict) private returns (bool) {
        (Task storage task, Head memory head,) = _current(taskCID);
        if (!_due(taskCID, head, State.Submitted, strict)) return false;
        _pay(taskCID, task, head);
        return true;
    }

    /// @dev The worker earns the whole reward, the treasury the fee, and the worker's stake is free again.
    function _pay(bytes32 taskCID, Task storage task, Head memory head) internal {
        address worker = task.worker;
        _releaseAndPay(worker, task.lock, head.reward, head.fee);
        head.state = State.Verified;
        task.head = head;
        emit TaskVerified(taskCID, worker, task.resultCID, head.reward, head.fee);
    }

    /// @dev Back to open, or to expired if its time is over: then its shares can only be taken back.
    function _reopen(bytes32 taskCID, uint256 generation, Task storage task, Head memory head) internal {
        head.state = State.Open;
        head.deadline = 0;
        task.head = head;
        (task.worker, task.lock) = (address(0), 0);
        task.resultCID = bytes32(0);
        emit TaskReopened(taskCID, generation);
    }

    /// @dev Whether the task is in this state and its deadline has passed.
    function _due(bytes32 taskCID, Head memory head, State state, bool strict) internal returns (bool) {
        if (head.state == state && block.timestamp >= head.deadline) return true;
        if (!strict) return _skip(taskCID);
        if (head.state != state) revert WrongState(taskCID, head.state);
        revert TooEarly(taskCID, head.deadline);
    }

    function _skip(bytes32 taskCID) internal returns (bool) {
        emit Skipped(taskCID);
        return false;
    }

    function _current(bytes32 taskCID) internal view returns (Task storage task, Head memory head, uint256 generation) {
        task = _tasks[taskCID];
        head = task.head;
        generation = head.generation;
        if (generation != 0) {
            task = _later[taskCID][generation];
            head = task.head;
        }
    }

    function _record(bytes32 taskCID, uint256 generation) private view returns (Task storage) {
        return generation == 0 ? _tasks[taskCID] : _later[taskCID][generation];
    }

    function _claimable(Head memory head) private view returns (bool) {
        return head.state == State.Open && block.timestamp < head.expiresAt;
    }

    function _held(State state) private pure returns (bool) {
        return state == State.Claimed || state == State.Submitted || state == State.Challenged;
    }

    function _checkBatch(uint256 length) internal pure {
        if (length == 0) revert EmptyBatch();
    }
}
