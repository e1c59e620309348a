// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ITaskCoordinator} from "./ITaskCoordinator.sol";

/// @title The coordinator of tasks, stakes and rewards.
/// @notice Holds, at any time, at least all stakes, all rewards and fees of unpaid tasks, all bonds
/// and all credits. Its only call to another address is in `withdrawTo`, after all it writes.
/// @dev A cid may be bought again and again. Each purchase is a generation with a record of its own:
/// the first in `_tasks`, so that the usual case reads one slot, later ones in `_later`. The current
/// one's number stands in the first one's head. Who submits while the current one is held waits in the
/// one after it, with money that no claim in progress can earn: its lock was not measured for it.
contract TaskCoordinator is ITaskCoordinator, Ownable2Step, Pausable {
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

    /// @dev `locked` holds what stands behind claims and what is unbonding, so that a claim reads one slot.
    struct Worker {
        uint96 stake;
        uint96 locked;
        uint64 reputation;
        uint96 unbonding;
        uint40 unbondingEnds;
    }

    uint256 private constant BASIS = 10_000;
    uint256 private constant MAX_FEE = 500;
    uint256 private constant INITIAL_FEE = 200;
    uint256 private constant MAX_PERIOD = 365 days;
    /// @dev A worker that lets a claim expire loses its lock divided by this.
    uint256 private constant NO_SHOW_DIVISOR = 10;

    /// @dev ERC-792's rulings: 0 is the arbitrator's refusal.
    uint256 private constant REFUSED = 0;
    uint256 private constant RESULT_STANDS = 1;
    uint256 private constant CHALLENGE_UPHELD = 2;

    uint96 private immutable MIN_STAKE;
    uint80 private immutable MIN_REWARD;
    uint96 private immutable MIN_BOND;
    uint96 private immutable MAX_LOCK;
    uint16 private immutable LOCK_MULTIPLE;
    uint32 private immutable TASK_LIFETIME;
    uint32 private immutable CLAIM_PERIOD;
    uint32 private immutable CHALLENGE_PERIOD;
    uint32 private immutable RULING_PERIOD;
    uint32 private immutable UNBONDING_PERIOD;

    /// @notice The fee of new submissions, in hundredths of a per cent.
    uint16 public feeBasisPoints; // shares its slot with the pause and the pending owner
    address public treasury;
    address public arbitrator;
    address public proposedArbitrator;
    uint40 public arbitratorEffectiveAt;
    uint256 private _disputes;

    mapping(bytes32 taskCID => Task) private _tasks;
    mapping(bytes32 taskCID => mapping(uint256 generation => Task)) private _later;
    mapping(address worker => Worker) private _workers;
    mapping(uint256 disputeID => bytes32 taskCID) private _disputed;
    /// @inheritdoc ITaskCoordinator
    mapping(address account => uint256 wei_) public credits;

    /// @param owner_ May pause, set the fee and the treasury, and announce an arbitrator.
    /// @param treasury_ Earns the fees and its half of slashes, penalties and lost bonds.
    /// @param arbitrator_ Rules on challenges.
    /// @param settings_ What cannot change afterwards.
    constructor(address owner_, address treasury_, address arbitrator_, Settings memory settings_) Ownable(owner_) {
        if (treasury_ == address(0) || arbitrator_ == address(0)) revert ZeroAddress();
        if (settings_.minStake == 0) revert SettingRefused("minStake");
        if (settings_.minReward == 0) revert SettingRefused("minReward");
        if (settings_.minBond == 0) revert SettingRefused("minBond");
        if (settings_.lockMultiple == 0) revert SettingRefused("lockMultiple");
        if (settings_.maxLock < uint256(settings_.minReward) * settings_.lockMultiple) revert SettingRefused("maxLock");
        _checkPeriod(settings_.taskLifetime, "taskLifetime");
        _checkPeriod(settings_.claimPeriod, "claimPeriod");
        _checkPeriod(settings_.challengePeriod, "challengePeriod");
        _checkPeriod(settings_.rulingPeriod, "rulingPeriod");
        if (
            settings_.unbondingPeriod
                <= uint256(settings_.claimPeriod) + settings_.challengePeriod + settings_.rulingPeriod
        ) revert SettingRefused("unbondingPeriod");
        MIN_STAKE = settings_.minStake;
        MIN_REWARD = settings_.minReward;
        MIN_BOND = settings_.minBond;
        MAX_LOCK = settings_.maxLock;
        LOCK_MULTIPLE = settings_.lockMultiple;
        TASK_LIFETIME = settings_.taskLifetime;
        CLAIM_PERIOD = settings_.claimPeriod;
        CHALLENGE_PERIOD = settings_.challengePeriod;
        RULING_PERIOD = settings_.rulingPeriod;
        UNBONDING_PERIOD = settings_.unbondingPeriod;
        feeBasisPoints = uint16(INITIAL_FEE);
        treasury = treasury_;
        arbitrator = arbitrator_;
        emit FeeChanged(INITIAL_FEE);
        emit TreasuryChanged(treasury_);
        emit ArbitratorChanged(arbitrator_);
    }

    // ---------------------------------------------------------------- workers

    /// @inheritdoc ITaskCoordinator
    function registerWorker() external payable whenNotPaused {
        Worker storage worker = _workers[msg.sender];
        if (worker.stake != 0) revert AlreadyRegistered(msg.sender);
        if (msg.value < MIN_STAKE) revert StakeTooLow(MIN_STAKE, msg.value);
        worker.stake = msg.value.toUint96();
        emit WorkerRegistered(msg.sender, msg.value);
    }

    /// @inheritdoc ITaskCoordinator
    function topUpStake() external payable whenNotPaused {
        Worker storage worker = _workers[msg.sender];
        if (worker.stake == 0) revert NotRegistered(msg.sender);
        uint256 stake = worker.stake + msg.value;
        worker.stake = stake.toUint96();
        emit StakeAdded(msg.sender, msg.value, stake);
    }

    /// @inheritdoc ITaskCoordinator
    function requestUnstake(uint256 amount) external {
        Worker storage worker = _workers[msg.sender];
        uint256 free = worker.stake - worker.locked;
        if (amount == 0 || amount > free) revert StakeNotFree(amount, free);
        worker.locked += uint96(amount);
        worker.unbonding += uint96(amount);
        worker.unbondingEnds = uint40(block.timestamp + UNBONDING_PERIOD);
        emit UnstakeRequested(msg.sender, amount, worker.unbondingEnds);
    }

    /// @inheritdoc ITaskCoordinator
    function completeUnstake() external {
        Worker storage worker = _workers[msg.sender];
        uint96 amount = worker.unbonding;
        if (amount == 0) revert NothingUnbonding(msg.sender);
        if (block.timestamp < worker.unbondingEnds) revert StillUnbonding(worker.unbondingEnds);
        worker.unbonding = 0;
        worker.locked -= amount;
        worker.stake -= amount;
        credits[msg.sender] += amount;
        emit Unstaked(msg.sender, amount);
    }

    // ------------------------------------------------------------------ tasks

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

    // ------------------------------------------------------------- challenges

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

    // ------------------------------------------------------------------ money

    /// @inheritdoc ITaskCoordinator
    function withdraw() external {
        withdrawTo(payable(msg.sender));
    }

    /// @inheritdoc ITaskCoordinator
    function withdrawTo(address payable to) public {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = credits[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        credits[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert WithdrawFailed(to);
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

    /// @inheritdoc ITaskCoordinator
    function getWorker(address account) external view returns (WorkerView memory) {
        Worker storage worker = _workers[account];
        return WorkerView({
            stake: worker.stake,
            locked: worker.locked - worker.unbonding,
            unbonding: worker.unbonding,
            unbondingEnds: worker.unbondingEnds,
            reputation: worker.reputation
        });
    }

    /// @inheritdoc ITaskCoordinator
    function disputedTask(uint256 disputeID) external view returns (bytes32) {
        return _disputed[disputeID];
    }

    /// @inheritdoc ITaskCoordinator
    function costOf(uint256 reward) external view returns (uint256) {
        return reward + _feeOf(reward);
    }

    /// @inheritdoc ITaskCoordinator
    function bondFor(uint256 reward) public view returns (uint256) {
        return Math.max(MIN_BOND, reward);
    }

    /// @inheritdoc ITaskCoordinator
    function lockFor(uint256 reward) public view returns (uint256) {
        return Math.min(MAX_LOCK, reward * LOCK_MULTIPLE);
    }

    /// @inheritdoc ITaskCoordinator
    function settings() external view returns (Settings memory) {
        return Settings({
            minStake: MIN_STAKE,
            minReward: MIN_REWARD,
            minBond: MIN_BOND,
            maxLock: MAX_LOCK,
            lockMultiple: LOCK_MULTIPLE,
            taskLifetime: TASK_LIFETIME,
            claimPeriod: CLAIM_PERIOD,
            challengePeriod: CHALLENGE_PERIOD,
            rulingPeriod: RULING_PERIOD,
            unbondingPeriod: UNBONDING_PERIOD
        });
    }

    // ------------------------------------------------------------------ owner

    /// @inheritdoc ITaskCoordinator
    function setFee(uint256 basisPoints) external onlyOwner {
        if (basisPoints > MAX_FEE) revert FeeTooHigh(MAX_FEE, basisPoints);
        feeBasisPoints = uint16(basisPoints);
        emit FeeChanged(basisPoints);
    }

    /// @inheritdoc ITaskCoordinator
    function setTreasury(address treasury_) external onlyOwner {
        if (treasury_ == address(0)) revert ZeroAddress();
        treasury = treasury_;
        emit TreasuryChanged(treasury_);
    }

    /// @inheritdoc ITaskCoordinator
    function proposeArbitrator(address arbitrator_) external onlyOwner {
        proposedArbitrator = arbitrator_;
        arbitratorEffectiveAt = uint40(block.timestamp + UNBONDING_PERIOD);
        emit ArbitratorProposed(arbitrator_, arbitratorEffectiveAt);
    }

    /// @inheritdoc ITaskCoordinator
    function acceptArbitrator() external {
        if (msg.sender != proposedArbitrator) revert NotArbitrator(msg.sender);
        if (block.timestamp < arbitratorEffectiveAt) revert StillUnbonding(arbitratorEffectiveAt);
        arbitrator = msg.sender;
        proposedArbitrator = address(0);
        emit ArbitratorChanged(msg.sender);
    }

    /// @inheritdoc ITaskCoordinator
    function pause() external onlyOwner {
        _pause();
    }

    /// @inheritdoc ITaskCoordinator
    function unpause() external onlyOwner {
        _unpause();
    }

    // ---------------------------------------------------------- tasks, inside

    function _submit(bytes32 taskCID, uint256 reward, uint256 fee) private {
        if (taskCID == bytes32(0)) revert ZeroCID();
        if (reward < MIN_REWARD) revert RewardTooLow(MIN_REWARD, reward);
        (Task storage task, Head memory head, uint256 generation) = _purchase(taskCID);
        if (head.state == State.None || block.timestamp >= head.expiresAt) {
            head.state = State.Open;
            head.expiresAt = uint40(block.timestamp + TASK_LIFETIME);
        }
        head.reward = (head.reward + reward).toUint80();
        head.fee = (head.fee + fee).toUint72();
        task.head = head;
        Share storage share = task.shares[msg.sender];
        share.reward += uint128(reward);
        share.fee += uint128(fee);
        emit TaskSubmitted(taskCID, msg.sender, generation, reward, fee, head.expiresAt);
    }

    /// @dev The generation that a submission joins: the current one while it is open, the one after it
    /// while it is held, a new one after it is over.
    function _purchase(bytes32 taskCID) private returns (Task storage task, Head memory head, uint256 generation) {
        bool held;
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
        bool waits = waiting.shares[msg.sender].reward != 0;
        bool shares = task.shares[msg.sender].reward != 0;
        State state = task.head.state;
        if (shares && state == State.Open) _refundShare(taskCID, generation, task);
        else if (waits) shares = false;
        else if (!strict) return _skip(taskCID);
        else if (shares) revert WrongState(taskCID, state);
        else revert NoShare(taskCID, msg.sender);
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
        Worker storage worker = _workers[msg.sender];
        (uint256 stake, uint256 locked) = (worker.stake, worker.locked);
        if (stake < MIN_STAKE || stake - locked < lock) {
            if (!strict) return _skip(taskCID);
            if (stake < MIN_STAKE) revert StakeTooLow(MIN_STAKE, stake);
            revert StakeNotFree(lock, stake - locked);
        }
        worker.locked = uint96(locked + lock);
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
        address account = task.worker;
        uint96 lock = task.lock;
        uint256 penalty = lock / NO_SHOW_DIVISOR;
        Worker storage worker = _workers[account];
        worker.locked -= lock;
        worker.stake -= uint96(penalty);
        _split(msg.sender, penalty);
        emit ClaimExpired(taskCID, account, msg.sender, penalty);
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
    function _pay(bytes32 taskCID, Task storage task, Head memory head) private {
        (address account, uint96 lock) = (task.worker, task.lock);
        Worker storage worker = _workers[account];
        worker.locked -= lock;
        worker.reputation =
            uint64(Math.min(type(uint64).max, uint256(worker.reputation) + uint256(head.fee) / 1 gwei));
        credits[account] += head.reward;
        credits[treasury] += head.fee;
        head.state = State.Verified;
        task.head = head;
        emit TaskVerified(taskCID, account, task.resultCID, head.reward, head.fee);
    }

    /// @dev Back to open, or to expired if its time is over: then its shares can only be taken back.
    function _reopen(bytes32 taskCID, uint256 generation, Task storage task, Head memory head) private {
        head.state = State.Open;
        head.deadline = 0;
        task.head = head;
        (task.worker, task.lock) = (address(0), 0);
        task.resultCID = bytes32(0);
        emit TaskReopened(taskCID, generation);
    }

    // ----------------------------------------------------- challenges, inside

    function _challenge(bytes32 taskCID, string calldata reason, bool strict) private returns (bool, uint256 bond) {
        (Task storage task, Head memory head,) = _current(taskCID);
        if (head.state != State.Submitted || block.timestamp >= head.deadline) {
            if (!strict) return (_skip(taskCID), 0);
            if (head.state != State.Submitted) revert WrongState(taskCID, head.state);
            revert DeadlinePassed(taskCID, head.deadline);
        }
        bond = bondFor(head.reward);
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
        if (task.disputeID != disputeID || disputeID == 0 || block.timestamp >= head.deadline) {
            if (!strict) return _skip(taskCID);
            if (task.disputeID != disputeID || disputeID == 0) revert UnknownDispute(disputeID);
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

    function _settleChallenge(
        bytes32 taskCID,
        uint256 generation,
        Task storage task,
        Head memory head,
        uint256 ruling
    ) private {
        (address challenger, uint96 bond) = (task.challenger, task.bond);
        emit ChallengeResolved(taskCID, task.disputeID, ruling);
        (task.challenger, task.bond, task.disputeID) = (address(0), 0, 0);
        if (ruling == RESULT_STANDS) {
            _split(task.worker, bond);
            _pay(taskCID, task, head);
        } else {
            credits[challenger] += bond;
            if (ruling == CHALLENGE_UPHELD) _slash(taskCID, task, challenger);
            else _workers[task.worker].locked -= task.lock;
            _reopen(taskCID, generation, task, head);
        }
    }

    /// @dev Half of all stake that does not stand behind another claim: this claim's lock, what is free
    /// and what is unbonding. So each claim's own lock is always there to be slashed.
    function _slash(bytes32 taskCID, Task storage task, address challenger) private {
        address account = task.worker;
        Worker storage worker = _workers[account];
        uint256 others = uint256(worker.locked) - worker.unbonding - task.lock;
        uint256 base = worker.stake - others;
        uint256 slashed = base / 2;
        uint256 unbonding = Math.min(worker.unbonding, base - slashed);
        worker.stake -= uint96(slashed);
        worker.locked = uint96(others + unbonding);
        worker.unbonding = uint96(unbonding);
        worker.reputation /= 2;
        _split(challenger, slashed);
        emit WorkerSlashed(account, taskCID, slashed);
    }

    // ----------------------------------------------------------------- inside

    /// @dev Half to `account`, the rest to the treasury: whoever loses the whole and is also `account` loses half.
    function _split(address account, uint256 amount) private {
        uint256 half = amount / 2;
        credits[account] += half;
        credits[treasury] += amount - half;
    }

    /// @dev What was sent covers `required`; the rest becomes credit.
    function _settleValue(uint256 required) private {
        if (msg.value < required) revert ValueTooLow(required, msg.value);
        if (msg.value > required) credits[msg.sender] += msg.value - required;
    }

    function _skip(bytes32 taskCID) private returns (bool) {
        emit Skipped(taskCID);
        return false;
    }

    /// @dev Whether the task is in this state and its deadline has passed.
    function _due(bytes32 taskCID, Head memory head, State state, bool strict) private returns (bool) {
        if (head.state == state && block.timestamp >= head.deadline) return true;
        if (!strict) return _skip(taskCID);
        if (head.state != state) revert WrongState(taskCID, head.state);
        revert TooEarly(taskCID, head.deadline);
    }

    function _current(bytes32 taskCID)
        private
        view
        returns (Task storage task, Head memory head, uint256 generation)
    {
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

    /// @dev Rounded up, so that splitting a submission never saves fees.
    function _feeOf(uint256 reward) private view returns (uint256) {
        return Math.ceilDiv(reward * feeBasisPoints, BASIS);
    }

    function _checkArbitrator() private view {
        if (msg.sender != arbitrator) revert NotArbitrator(msg.sender);
    }

    function _checkBatch(uint256 length) private pure {
        if (length == 0) revert EmptyBatch();
    }

    function _checkPeriod(uint256 period, string memory name) private pure {
        if (period == 0 || period > MAX_PERIOD) revert SettingRefused(name);
    }
}
