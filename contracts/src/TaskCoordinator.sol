// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "./ITaskCoordinator.sol";
import {Tasks} from "./Tasks.sol";
import {Terms} from "./Terms.sol";

/// @title The coordinator of tasks, stakes and rewards; here are its challenges.
/// @notice Holds, at any time, at least all stakes, all rewards and fees of unpaid tasks, all bonds
/// and all credits.
/// @dev No proxy: what a worker stakes on today is the code that rules tomorrow.
contract TaskCoordinator is Tasks {
    /// @dev ERC-792's rulings: 0 is the arbitrator's refusal.
    uint256 private constant REFUSED = 0;
    uint256 private constant RESULT_STANDS = 1;
    uint256 private constant CHALLENGE_UPHELD = 2;

    uint256 private _disputes;
    mapping(uint256 disputeID => bytes32 taskCID) private _disputed;

    /// @param owner_ May pause, set the fee and the treasury, and announce an arbitrator.
    /// @param treasury_ Earns the fees and its half of slashes, penalties and lost bonds.
    /// @param arbitrator_ Rules on challenges.
    /// @param settings_ What cannot change afterwards.
    constructor(address owner_, address treasury_, address arbitrator_, Settings memory settings_)
        Terms(owner_, treasury_, arbitrator_, settings_)
    {}

    /// @inheritdoc ITaskCoordinator
    function challengeTask(bytes32 taskCID, string calldata reason) external payable {
        (, uint256 bond) = _challenge(taskCID, reason, true);
        _settleValue(bond);
    }

    /// @inheritdoc ITaskCoordinator
    function challengeTasks(bytes32[] calldata taskCIDs, string calldata reason)
        external
        payable
        returns (uint256 done)
    {
        _checkBatch(taskCIDs.length);
        uint256 bonds = 0;
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            (bool challenged, uint256 bond) = _challenge(taskCIDs[i], reason, false);
            if (challenged) ++done;
            bonds += bond;
        }
        _settleValue(bonds);
    }

    /// @inheritdoc ITaskCoordinator
    function rule(uint256 disputeID, uint256 ruling) external {
        _checkArbitrator();
        _rule(disputeID, ruling, true);
    }

    /// @inheritdoc ITaskCoordinator
    function resolveChallenge(bytes32 taskCID, uint256 disputeID, uint256 ruling) external {
        _checkArbitrator();
        if (_disputed[disputeID] != taskCID) revert UnknownDispute(disputeID);
        _rule(disputeID, ruling, true);
    }

    /// @inheritdoc ITaskCoordinator
    function resolveChallenges(uint256[] calldata disputeIDs, uint256[] calldata rulings)
        external
        returns (uint256 done)
    {
        _checkArbitrator();
        _checkBatch(disputeIDs.length);
        if (disputeIDs.length != rulings.length) revert LengthsDiffer(disputeIDs.length, rulings.length);
        for (uint256 i = 0; i < disputeIDs.length; ++i) {
            if (_rule(disputeIDs[i], rulings[i], false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function expireChallenge(bytes32 taskCID) external {
        _expireChallenge(taskCID, true);
    }

    /// @inheritdoc ITaskCoordinator
    function expireChallenges(bytes32[] calldata taskCIDs) external returns (uint256 done) {
        _checkBatch(taskCIDs.length);
        for (uint256 i = 0; i < taskCIDs.length; ++i) {
            if (_expireChallenge(taskCIDs[i], false)) ++done;
        }
    }

    /// @inheritdoc ITaskCoordinator
    function disputedTask(uint256 disputeID) external view returns (bytes32) {
        return _disputed[disputeID];
    }

    // ----------------------------------------------------------------- inside

    function _challenge(bytes32 taskCID, string calldata reason, bool strict) private returns (bool, uint256 bond) {
        (Task storage task, Head memory head,) = _current(taskCID);
        if (head.state != State.Submitted || block.timestamp >= head.deadline) {
            if (!strict) return (_skip(taskCID), 0);
            if (head.state != State.Submitted) revert WrongState(taskCID, head.state);
            revert DeadlinePassed(taskCID, head.deadline);
        }
        bond = bondFor(head.reward);
        // slither-disable-next-line costly-loop (each dispute has a number of its own)
        uint256 disputeID = ++_disputes;
        _disputed[disputeID] = taskCID;
        head.state = State.Challenged;
        head.deadline = uint40(block.timestamp + RULING_PERIOD);
        task.head = head;
        (task.challenger, task.bond, task.disputeID) = (msg.sender, uint96(bond), disputeID);
        emit TaskChallenged(taskCID, msg.sender, disputeID, task.resultCID, bond, head.deadline, reason);
        return (true, bond);
    }

    function _rule(uint256 disputeID, uint256 ruling, bool strict) private returns (bool) {
        if (ruling > CHALLENGE_UPHELD) revert UnknownRuling(ruling);
        bytes32 taskCID = _disputed[disputeID];
        (Task storage task, Head memory head, uint256 generation) = _current(taskCID);
        bool unknown = disputeID == 0 || task.disputeID != disputeID;
        if (unknown || block.timestamp >= head.deadline) {
            if (!strict) return _skip(taskCID);
            if (unknown) revert UnknownDispute(disputeID);
            revert DeadlinePassed(taskCID, head.deadline);
        }
        emit Ruling(msg.sender, disputeID, ruling);
        _settleChallenge(taskCID, generation, task, head, ruling);
        return true;
    }

    function _expireChallenge(bytes32 taskCID, bool strict) private returns (bool) {
        (Task storage task, Head memory head, uint256 generation) = _current(taskCID);
        if (!_due(taskCID, head, State.Challenged, strict)) return false;
        _settleChallenge(taskCID, generation, task, head, REFUSED);
        return true;
    }

    function _settleChallenge(bytes32 taskCID, uint256 generation, Task storage task, Head memory head, uint256 ruling)
        private
    {
        (address worker, address challenger, uint96 bond) = (task.worker, task.challenger, task.bond);
        emit ChallengeResolved(taskCID, task.disputeID, ruling);
        (task.challenger, task.bond, task.disputeID) = (address(0), 0, 0);
        if (ruling == RESULT_STANDS) {
            _split(worker, bond);
            _pay(taskCID, task, head);
        } else {
            credits[challenger] += bond;
            if (ruling == CHALLENGE_UPHELD) {
                emit WorkerSlashed(worker, taskCID, _slash(worker, task.lock, challenger));
            } else {
                _releaseStake(worker, task.lock);
            }
            _reopen(taskCID, generation, task, head);
        }
    }
}
