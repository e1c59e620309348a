// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

/// @notice What a chain tells its listeners. The listener reads these, so they change with it only.
interface ITaskEvents {
    event WorkerRegistered(address indexed worker, uint256 stake);
    event StakeAdded(address indexed worker, uint256 amount, uint256 stake);
    event UnstakeRequested(address indexed worker, uint256 amount, uint256 availableAt);
    event Unstaked(address indexed worker, uint256 amount);
    event WorkerSlashed(address indexed worker, bytes32 indexed taskCID, uint256 amount);

    event TaskSubmitted(
        bytes32 indexed taskCID,
        address indexed submitter,
        uint256 generation,
        uint256 reward,
        uint256 fee,
        uint256 expiresAt
    );
    event TaskClaimed(
        bytes32 indexed taskCID,
        address indexed worker,
        uint256 generation,
        uint256 reward,
        uint256 lock,
        uint256 deadline
    );
    event ResultSubmitted(bytes32 indexed taskCID, address indexed worker, bytes32 resultCID, uint256 deadline);
    event TaskVerified(bytes32 indexed taskCID, address indexed worker, bytes32 resultCID, uint256 reward, uint256 fee);
    event ClaimExpired(bytes32 indexed taskCID, address indexed worker, address indexed caller, uint256 penalty);
    event TaskReopened(bytes32 indexed taskCID, uint256 generation);
    event ShareRefunded(
        bytes32 indexed taskCID, address indexed submitter, uint256 generation, uint256 reward, uint256 fee
    );
    /// @notice A batch passed over an entry: called alone, it would have reverted.
    event Skipped(bytes32 indexed taskCID);

    event TaskChallenged(
        bytes32 indexed taskCID,
        address indexed challenger,
        uint256 indexed disputeID,
        bytes32 resultCID,
        uint256 bond,
        uint256 deadline,
        string reason
    );
    event ChallengeResolved(bytes32 indexed taskCID, uint256 indexed disputeID, uint256 ruling);
    /// @notice ERC-792: the arbitrator gave a ruling.
    event Ruling(address indexed arbitrator, uint256 indexed disputeID, uint256 ruling);

    event Withdrawn(address indexed account, address indexed to, uint256 amount);
    event FeeChanged(uint256 basisPoints);
    event TreasuryChanged(address indexed treasury);
    event ArbitratorProposed(address indexed arbitrator, uint256 effectiveAt);
    event ArbitratorChanged(address indexed arbitrator);
}

/// @title Staked workers do tasks for a reward, and answer for their results with their stake.
/// @notice The words: a task is the 32-byte BLAKE3 digest of its CIDv1, its `taskCID`. A worker locks
/// stake to claim it, submits the cid of its result before a deadline, and is paid once the time for
/// challenges has passed. All money leaves by `withdraw` alone.
///
/// Each boundary is sharp: an action that ends at a time is possible strictly before it, and what
/// follows is possible from that second on.
interface ITaskCoordinator is ITaskEvents {
    // ------------------------------------------------------------------ words

    /// @notice Where a task stands.
    enum State {
        None, // nobody has submitted it, or all have taken their shares back
        Open, // may be claimed until it expires; its shares may be taken back
        Claimed, // one worker may submit a result until the deadline
        Submitted, // the result may be challenged until the deadline
        Challenged, // the arbitrator may rule until the deadline
        Verified // its worker has been paid
    }

    /// @notice What cannot change for as long as the contract lives.
    /// @param minStake What a worker needs to register and to claim, in wei.
    /// @param minReward The least that a submission adds, in wei.
    /// @param minBond The least that a challenge costs, in wei; a challenge stakes the reward if that is more.
    /// @param maxLock The most that a claim locks, in wei: whoever has it free can claim any task.
    /// @param lockMultiple A claim locks this many times the reward, up to `maxLock`.
    /// @param taskLifetime How long a task may be claimed, in seconds.
    /// @param claimPeriod How long a worker has for a result, in seconds.
    /// @param challengePeriod How long a result may be challenged, in seconds.
    /// @param rulingPeriod How long the arbitrator has, in seconds.
    /// @param unbondingPeriod How long stake stays liable after its owner asked for it, in seconds: longer than the
    /// three periods before it together.
    struct Settings {
        uint96 minStake;
        uint80 minReward;
        uint96 minBond;
        uint96 maxLock;
        uint16 lockMultiple;
        uint32 taskLifetime;
        uint32 claimPeriod;
        uint32 challengePeriod;
        uint32 rulingPeriod;
        uint32 unbondingPeriod;
    }

    /// @notice A task as its readers see it.
    /// @param state Where it stands.
    /// @param generation How often the cid has been bought before: 0 for the first time.
    /// @param reward What its worker earns, in wei.
    /// @param fee What the treasury earns with it, in wei, on top of the reward.
    /// @param expiresAt From when nobody may claim it any more (Unix time).
    /// @param deadline When the present state ends: of a claim, of a challenge period, of a ruling (Unix time).
    /// @param worker Who holds it, or did it.
    /// @param lock The stake that stands behind the claim, in wei.
    /// @param resultCID The digest of the result's cid.
    /// @param challenger Who challenged the result.
    /// @param bond What the challenger staked, in wei.
    /// @param disputeID The number of the dispute.
    struct TaskView {
        State state;
        uint256 generation;
        uint256 reward;
        uint256 fee;
        uint256 expiresAt;
        uint256 deadline;
        address worker;
        uint256 lock;
        bytes32 resultCID;
        address challenger;
        uint256 bond;
        uint256 disputeID;
    }

    /// @notice A worker as its readers see it.
    /// @param stake All its stake, in wei: free, locked and unbonding.
    /// @param locked What stands behind its claims, in wei.
    /// @param unbonding What it has asked back, in wei. Still liable.
    /// @param unbondingEnds From when it may take that (Unix time).
    /// @param reputation The fees of the tasks it was paid for, in gwei; halved by each slash.
    struct WorkerView {
        uint256 stake;
        uint256 locked;
        uint256 unbonding;
        uint256 unbondingEnds;
        uint256 reputation;
    }

    // ----------------------------------------------------------------- errors

    error SettingRefused(string setting);
    error ZeroAddress();
    error EmptyBatch();
    error LengthsDiffer(uint256 tasks, uint256 results);
    error ValueTooLow(uint256 required, uint256 sent);
    error AlreadyRegistered(address worker);
    error NotRegistered(address worker);
    error StakeTooLow(uint256 required, uint256 stake);
    error StakeNotFree(uint256 required, uint256 free);
    error NothingUnbonding(address worker);
    error StillUnbonding(uint256 availableAt);
    error ZeroCID();
    error RewardTooLow(uint256 required, uint256 reward);
    error WrongState(bytes32 taskCID, State state);
    error TaskExpired(bytes32 taskCID, uint256 expiredAt);
    error DeadlinePassed(bytes32 taskCID, uint256 deadline);
    error TooEarly(bytes32 taskCID, uint256 deadline);
    error NotClaimant(bytes32 taskCID, address worker);
    error NoShare(bytes32 taskCID, address submitter);
    error NotArbitrator(address caller);
    error UnknownDispute(uint256 disputeID);
    error UnknownRuling(uint256 ruling);
    error NothingToWithdraw(address account);
    error WithdrawFailed(address to);
    error FeeTooHigh(uint256 limit, uint256 basisPoints);

    // ---------------------------------------------------------------- workers

    /// @notice Register with all that is sent as stake.
    function registerWorker() external payable;

    /// @notice Add what is sent to one's stake.
    function topUpStake() external payable;

    /// @notice Ask free stake back. It can be claimed with no more, but stays liable until the unbonding
    /// period is over. A second request starts the period anew for all of it.
    function requestUnstake(uint256 amount) external;

    /// @notice Turn what has been unbonding for the whole period into credit.
    function completeUnstake() external;

    // ------------------------------------------------------------------ tasks

    /// @notice Pay `reward` and the fee on top for an execution of a task. Adds to the reward of a task that nobody
    /// holds; while a claim runs, buys the execution after it. What is sent beyond `costOf(reward)` becomes credit.
    function submitTask(bytes32 taskCID, uint256 reward) external payable;

    /// @notice `submitTask` for each cid, with the same reward for each.
    function submitTasks(bytes32[] calldata taskCIDs, uint256 rewardEach) external payable;

    /// @notice Take back one's share of a task that nobody holds.
    function cancelTask(bytes32 taskCID) external;

    /// @notice `cancelTask` for each cid, passing over those that are held or that one has no share in.
    /// @return done How many shares were taken back.
    function cancelTasks(bytes32[] calldata taskCIDs) external returns (uint256 done);

    /// @notice Take back one's share of an earlier purchase of a cid that expired unpaid.
    function refund(bytes32 taskCID, uint256 generation) external;

    /// @notice Lock stake and become the one worker whose result counts, until the deadline.
    function claimTask(bytes32 taskCID) external;

    /// @notice `claimTask`, unless the reward has fallen below `minReward` since one looked.
    function claimTaskFor(bytes32 taskCID, uint256 minReward) external;

    /// @notice `claimTask` for each cid, passing over those that cannot be claimed.
    /// @return done How many were claimed.
    function claimTasks(bytes32[] calldata taskCIDs) external returns (uint256 done);

    /// @notice Free a task whose worker has let the deadline pass. The worker loses a tenth of its lock, half of it to
    /// the caller and half to the treasury.
    function reclaimTask(bytes32 taskCID) external;

    /// @notice `reclaimTask` for each cid, passing over those that cannot be freed.
    /// @return done How many were freed.
    function reclaimTasks(bytes32[] calldata taskCIDs) external returns (uint256 done);

    /// @notice Submit the cid of the result of a task that one holds.
    function submitResult(bytes32 taskCID, bytes32 resultCID) external;

    /// @notice `submitResult` for each pair, passing over tasks that one does not hold any more.
    /// @return done How many results were taken.
    function submitResults(bytes32[] calldata taskCIDs, bytes32[] calldata resultCIDs) external returns (uint256 done);

    /// @notice Pay the worker of a result that nobody has challenged in time.
    function verifyTask(bytes32 taskCID) external;

    /// @notice `verifyTask` for each cid, passing over those that cannot be verified.
    /// @return done How many were verified.
    function verifyTasks(bytes32[] calldata taskCIDs) external returns (uint256 done);

    // ------------------------------------------------------------- challenges

    /// @notice Stake a bond on a result being wrong. What is sent beyond the bond becomes credit.
    function challengeTask(bytes32 taskCID, string calldata reason) external payable;

    /// @notice `challengeTask` for each cid, passing over those that cannot be challenged.
    /// @return done How many were challenged.
    function challengeTasks(bytes32[] calldata taskCIDs, string calldata reason) external payable returns (uint256 done);

    /// @notice ERC-792: rule on a dispute. 0 refuses to rule, 1 lets the result stand, 2 upholds the challenge.
    function rule(uint256 disputeID, uint256 ruling) external;

    /// @notice `rule`, with the task named, so that a ruling cannot meet another dispute than was meant.
    function resolveChallenge(bytes32 taskCID, uint256 disputeID, uint256 ruling) external;

    /// @notice `rule` for each pair, passing over disputes that cannot be ruled on any more.
    /// @return done How many were ruled on.
    function resolveChallenges(uint256[] calldata disputeIDs, uint256[] calldata rulings)
        external
        returns (uint256 done);

    /// @notice End a challenge on which the arbitrator did not rule in time, as if it had refused to: the bond
    /// goes back, nobody is slashed, nobody is paid, the task is open again.
    function expireChallenge(bytes32 taskCID) external;

    /// @notice `expireChallenge` for each cid, passing over those that cannot be ended.
    /// @return done How many were ended.
    function expireChallenges(bytes32[] calldata taskCIDs) external returns (uint256 done);

    // ------------------------------------------------------------------ money

    /// @notice Take all one's credit.
    function withdraw() external;

    /// @notice Take all one's credit to another address.
    function withdrawTo(address payable to) external;

    // ------------------------------------------------------------------ views

    /// @notice What an account may withdraw, in wei.
    function credits(address account) external view returns (uint256);

    /// @notice The task that a cid stands for now.
    function getTask(bytes32 taskCID) external view returns (TaskView memory);

    /// @notice One purchase of a cid.
    function getTaskAt(bytes32 taskCID, uint256 generation) external view returns (TaskView memory);

    /// @notice What a submitter has put into one purchase of a cid, in wei.
    function shareOf(bytes32 taskCID, uint256 generation, address submitter)
        external
        view
        returns (uint256 reward, uint256 fee);

    function getWorker(address worker) external view returns (WorkerView memory);

    /// @notice The task that a dispute is about.
    function disputedTask(uint256 disputeID) external view returns (bytes32);

    /// @notice What `submitTask` costs now: the reward and the fee, in wei.
    function costOf(uint256 reward) external view returns (uint256);

    /// @notice What a challenge of a task with this reward costs, in wei.
    function bondFor(uint256 reward) external view returns (uint256);

    /// @notice What a claim of a task with this reward locks, in wei.
    function lockFor(uint256 reward) external view returns (uint256);

    function settings() external view returns (Settings memory);

    // ------------------------------------------------------------------ owner

    /// @notice Change the fee of later submissions, in hundredths of a per cent, up to 500.
    function setFee(uint256 basisPoints) external;

    function setTreasury(address treasury) external;

    /// @notice Announce another arbitrator. It can take over after the unbonding period, so whoever does not trust it can leave first.
    function proposeArbitrator(address arbitrator) external;

    /// @notice Take over as the arbitrator that was announced.
    function acceptArbitrator() external;

    /// @notice Let nothing new in: no stake, task or claim. What has begun goes on, and all may leave.
    function pause() external;

    function unpause() external;
}
