// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ITaskCoordinator} from "./ITaskCoordinator.sol";

/// @title What everybody agrees to: what never changes, and the little that the owner may change.
/// @dev The owner reaches no task, stake, bond or credit. A changed fee meets later submissions only; another
/// arbitrator can take over only after the unbonding period, so that whoever does not trust it can leave first.
abstract contract Terms is ITaskCoordinator, Ownable2Step, Pausable {
    uint256 private constant BASIS = 10_000;
    uint256 private constant MAX_FEE = 500;
    uint256 private constant INITIAL_FEE = 200;
    uint256 private constant MAX_PERIOD = 365 days;

    uint96 internal immutable MIN_STAKE;
    uint80 internal immutable MIN_REWARD;
    uint96 internal immutable MIN_BOND;
    uint96 internal immutable MAX_LOCK;
    uint16 internal immutable LOCK_MULTIPLE;
    uint32 internal immutable TASK_LIFETIME;
    uint32 internal immutable CLAIM_PERIOD;
    uint32 internal immutable CHALLENGE_PERIOD;
    uint32 internal immutable RULING_PERIOD;
    uint32 internal immutable UNBONDING_PERIOD;

    /// @notice The fee of new submissions, in hundredths of a per cent.
    uint16 public feeBasisPoints; // in one slot with the pause
    /// @notice Earns the fees and its half of slashes, penalties and lost bonds.
    address public treasury;
    /// @notice Rules on challenges.
    address public arbitrator;
    /// @notice Takes over as arbitrator, if it accepts.
    address public proposedArbitrator;
    /// @notice From when it may (Unix time).
    uint40 public arbitratorEffectiveAt;

    constructor(address owner_, address treasury_, address arbitrator_, Settings memory settings_) Ownable(owner_) {
        if (treasury_ == address(0) || arbitrator_ == address(0)) revert ZeroAddress();
        if (settings_.minStake == 0) revert SettingRefused("minStake");
        if (settings_.minReward == 0) revert SettingRefused("minReward");
        if (settings_.minBond == 0) revert SettingRefused("minBond");
        if (settings_.lockMultiple == 0) revert SettingRefused("lockMultiple");
        if (settings_.maxLock < uint256(settings_.minReward) * settings_.lockMultiple) {
            revert SettingRefused("maxLock");
        }
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
        // slither-disable-next-line missing-zero-check (takes the proposal back)
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

    /// @dev Rounded up, so that splitting a submission never saves fees.
    function _feeOf(uint256 reward) internal view returns (uint256) {
        return Math.ceilDiv(reward * feeBasisPoints, BASIS);
    }

    function _checkArbitrator() internal view {
        if (msg.sender != arbitrator) revert NotArbitrator(msg.sender);
    }

    function _checkPeriod(uint256 period, string memory name) private pure {
        if (period == 0 || period > MAX_PERIOD) revert SettingRefused(name);
    }
}
